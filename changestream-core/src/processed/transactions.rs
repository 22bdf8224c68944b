use std::{collections::BTreeMap, sync::Arc};

use bson::{Binary, doc};
use mongodb::{
    ClientSession, Database,
    error::Error as DriverError,
    options::{ReadConcern, WriteConcern},
};
use serde::Deserialize;

use super::{MongoProcessed, ProcessedStore, sessions::Sessions};
use crate::{
    collection::{is_duplicate_key, primary},
    error::StoreError,
    message::Message,
};

/// Transactions of one runtime, each of which records the event that it is for.
#[derive(Clone, Debug)]
pub(crate) struct Transactions {
    processed: MongoProcessed,
    sessions: Arc<Sessions>,
}

/// What came of claiming an event.
pub(crate) enum Claim {
    /// Its id is recorded in the transaction of this session.
    Ours(Box<ClientSession>),
    /// It was processed before, and this is what its handler returned.
    Done(Vec<Message>),
}

impl Transactions {
    pub(crate) fn new(processed: MongoProcessed, runtime: &str) -> Self {
        Self {
            sessions: Arc::new(Sessions::new(processed.collection.clone(), runtime)),
            processed,
        }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.processed.database
    }

    /// Makes the store ready, and ends what a crash left behind.
    pub(crate) async fn prepare(&self) -> Result<(), StoreError> {
        self.processed.prepare().await?;
        self.sessions.kill_left_behind(self.database()).await;
        Ok(())
    }

    /// Starts a transaction and records `id` in it.
    ///
    /// An id that another transaction has recorded and not yet committed is an error that passes (a write
    /// conflict); so is one whose commit could still be rolled back.
    pub(crate) async fn claim(&self, id: &str) -> Result<Claim, StoreError> {
        match self.begin(id).await {
            Ok(session) => Ok(Claim::Ours(Box::new(session))),
            Err(error) if is_duplicate_key(&error) => self.returned(id).await.map(Claim::Done),
            Err(error) => {
                let what = "record an event in";
                Err(self.processed.error(what).caused_by(error))
            }
        }
    }

    async fn begin(&self, id: &str) -> Result<ClientSession, DriverError> {
        let mut session = self.database().client().start_session().await?;
        self.sessions.register(session.id()).await?;
        session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(WriteConcern::majority())
            .selection_criteria(primary())
            .await?;
        let record = self.processed.document(id);
        let inserting = self.processed.collection.insert_one(record);
        match inserting.session(&mut session).await {
            Ok(_) => Ok(session),
            Err(error) => {
                session.abort_transaction().await.ok();
                Err(error)
            }
        }
    }

    /// What the handler of a processed event returned.
    async fn returned(&self, id: &str) -> Result<Vec<Message>, StoreError> {
        let error = |what| self.processed.error(what);
        let found = self.processed.collection.find_one(doc! { "_id": id }).await;
        let found = found.map_err(|cause| error("read from").caused_by(cause))?;
        let found = found.ok_or_else(|| error("rely yet on an event recorded in"))?;
        let record: Record = bson::deserialize_from_document(found)
            .map_err(|cause| error("decode an event of").caused_by(cause))?;
        Ok(record.messages.into_iter().map(Message::from).collect())
    }

    /// Adds what the handler returned to what is recorded of the event, in the same transaction.
    pub(crate) async fn keep(
        &self,
        session: &mut ClientSession,
        id: &str,
        messages: &[Message],
    ) -> Result<(), DriverError> {
        let messages = bson::serialize_to_bson(messages)?;
        let update = doc! { "$set": { "messages": messages } };
        let records = &self.processed.collection;
        let updating = records.update_one(doc! { "_id": id }, update);
        updating.session(session).await.map(drop)
    }
}

/// What is recorded of a processed event besides its id.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    messages: Vec<Kept>,
}

/// A message as it serializes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    content_type: String,
    key: Option<String>,
    headers: BTreeMap<String, String>,
    payload: Binary,
}

impl From<Kept> for Message {
    fn from(kept: Kept) -> Self {
        let message = Self::new(kept.payload.bytes, kept.content_type);
        let message = match kept.key {
            Some(key) => message.key(key),
            None => message,
        };
        let headers = kept.headers.into_iter();
        headers.fold(message, |message, (name, value)| {
            message.header(name, value)
        })
    }
}
