use std::{fmt, sync::Arc};

use bson::Document;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::error::{Error, Kind};

/// How many requests wait at most; further ones wait to be taken.
const WAITING: usize = 16;

/// A snapshot that was asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) collection: String,
    pub(crate) filter: Document,
    pub(crate) done: oneshot::Sender<Result<u64, Error>>,
}

/// The receiving end, which goes from one who is active to the next.
pub(crate) type Requests = Arc<Mutex<mpsc::Receiver<Request>>>;

/// Takes snapshots of collections while a runtime runs, whatever [`Snapshot`](crate::Snapshot) says. Made by
/// [`Runtime::snapshots`](crate::Runtime::snapshots).
#[derive(Clone)]
pub struct Snapshots(mpsc::Sender<Request>);

impl Snapshots {
    pub(crate) fn new() -> (Self, Requests) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), Arc::new(Mutex::new(receiver)))
    }

    /// Hands the documents of `collection`, one of the runtime's database, that match the query `filter` to the handlers
    /// that receive snapshots of it; an empty filter matches all. Resolves when they are done with them, to how many
    /// documents there were. Changes go first.
    ///
    /// A runtime that stands by takes the snapshot when it becomes active. The request is not kept over a restart.
    ///
    /// # Errors
    ///
    /// When no handler receives snapshots of the collection, the server does not take the query, or the runtime stopped
    /// before it was done.
    pub async fn request(
        &self,
        collection: impl Into<String>,
        filter: Document,
    ) -> Result<u64, Error> {
        let collection = collection.into();
        let stopped = format!("the runtime stopped before the snapshot of `{collection}` was done");
        let stopped = || Error::new(Kind::Snapshot, stopped.as_str());
        let (done, result) = oneshot::channel();
        let request = Request {
            collection,
            filter,
            done,
        };
        self.0.send(request).await.map_err(|_closed| stopped())?;
        result.await.map_err(|_closed| stopped())?
    }
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshots")
    }
}
