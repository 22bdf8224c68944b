//! Snapshots: the documents that were there before, read beside the stream and handed to the handlers in one order
//! with its events.
//!
//! The watermark algorithm of DBLog, with the server's cluster time for the watermarks. For each chunk of documents:
//!
//! 1. A [`Window`] opens: from now on, what the stream changes in the collection is noted.
//! 2. The time is taken, and the chunk is read, no older than that.
//! 3. Its documents wait until the stream has come to the time when the read was over.
//! 4. Those that the stream has changed since the time was taken are read again, for the stream may have brought what
//!    is newer than they are. All others go to the lanes, where they are as good as events of this place.
//!
//! So nothing depends on how long a snapshot takes, or on how far back the oplog goes.

mod chunk;
mod memory;
mod mongodb;
mod pacer;
mod reader;
mod record;
mod request;
mod task;
mod window;

pub use memory::MemorySnapshots;
pub use mongodb::MongoSnapshots;
pub use record::{SnapshotRange, SnapshotRecord};
pub use request::Snapshots;

pub(crate) use chunk::{Chunk, Incoming, Rows};
pub(crate) use request::Requests;
pub(crate) use task::{SnapshotTask, Targets};
pub(crate) use window::{Window, Windows};

use std::fmt;

use async_trait::async_trait;

use crate::{checkpoint::Saved, error::StoreError};

/// Whether a runtime begins with the documents that are there already.
///
/// Each is handed, as [`Operation::Snapshot`](crate::Operation::Snapshot), to every handler that receives inserts or
/// names the operation. The stream runs meanwhile, and goes first. The documents of one collection come in no
/// particular order; those and the events of one document come in order. Each document comes at least once, but for
/// those that are deleted meanwhile. A document has the same [`EventId`](crate::EventId) each time it comes in a
/// snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Snapshot {
    /// It does not: the handlers see what changes.
    #[default]
    Never,
    /// Once for each collection that a handler watches, by the runtime's name. One that was interrupted goes on where it
    /// stopped.
    Initial,
    /// As `Initial`, and once more whenever the runtime starts without a position in the stream, as when its
    /// checkpoint was deleted.
    WhenNeeded,
}

/// Where it is kept how far the snapshots have come.
#[async_trait]
pub trait SnapshotStore: fmt::Debug + Send + Sync + 'static {
    /// All records of the runtime named `runtime`.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    async fn load(&self, runtime: &str) -> Result<Vec<SnapshotRecord>, StoreError>;

    /// Saves `record` durably in place of the one of its database and collection, if that is not of a later epoch.
    ///
    /// # Errors
    ///
    /// When it cannot be saved.
    async fn save(&self, runtime: &str, record: &SnapshotRecord) -> Result<Saved, StoreError>;
}
