use std::time::Duration;

use async_trait::async_trait;
use bson::{DateTime, Document, doc};
use mongodb::{
    Collection, Database, IndexModel,
    error::{Error as DriverError, ErrorKind},
    options::IndexOptions,
};

use super::ProcessedStore;
use crate::{
    collection::{durable, is_duplicate_key},
    error::StoreError,
};

const NAMESPACE_EXISTS: i32 = 48;

/// The ids of processed events in a MongoDB collection, written with majority write concern.
///
/// Each is kept for the [`retention`](Self::retention) after its event was processed, by this machine's
/// clock, and then removed by a TTL index.
#[derive(Clone, Debug)]
pub struct MongoProcessed {
    pub(super) database: Database,
    pub(super) collection: Collection<Document>,
    retention: Duration,
}

impl MongoProcessed {
    /// The default collection's name.
    pub const COLLECTION: &str = "changestream.processed";
    /// How long ids are kept by default: 7 days.
    pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// In the collection [`COLLECTION`](Self::COLLECTION) of `database`.
    pub fn new(database: &Database) -> Self {
        Self::in_collection(database, Self::COLLECTION)
    }

    /// In the collection `name` of `database`.
    pub fn in_collection(database: &Database, name: &str) -> Self {
        Self {
            database: database.clone(),
            collection: durable(database, name),
            retention: Self::RETENTION,
        }
    }

    /// Keeps ids this long, 7 days by default. Choose it longer than the oplog reaches back: an event that
    /// is not in the oplog any more cannot come again.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    pub(super) fn document(&self, id: &str) -> Document {
        let now = DateTime::now().timestamp_millis();
        let retention = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        let expires_at = DateTime::from_millis(now.saturating_add(retention));
        doc! { "_id": id, "expiresAt": expires_at }
    }

    pub(super) fn error(&self, what: &str) -> StoreError {
        StoreError::new(format!("cannot {what} `{}`", self.collection.namespace()))
    }
}

#[async_trait]
impl ProcessedStore for MongoProcessed {
    /// Creates the collection, which a transaction on an old server could not, and its TTL index.
    async fn prepare(&self) -> Result<(), StoreError> {
        let created = self.database.create_collection(self.collection.name());
        match created.await {
            Err(error) if !is_command_error(&error, NAMESPACE_EXISTS) => {
                return Err(self.error("create").caused_by(error));
            }
            _ => {}
        }
        let options = IndexOptions::builder().expire_after(Duration::ZERO).build();
        let expiry = IndexModel::builder()
            .keys(doc! { "expiresAt": 1 })
            .options(options);
        let indexed = self.collection.create_index(expiry.build()).await;
        indexed.map(drop).map_err(|error| {
            let what = "create the TTL index of";
            self.error(what).caused_by(error)
        })
    }

    async fn contains(&self, id: &str) -> Result<bool, StoreError> {
        let found = self.collection.find_one(doc! { "_id": id }).await;
        found
            .map(|found| found.is_some())
            .map_err(|error| self.error("read from").caused_by(error))
    }

    async fn record(&self, id: &str) -> Result<(), StoreError> {
        match self.collection.insert_one(self.document(id)).await {
            Err(error) if !is_duplicate_key(&error) => {
                Err(self.error("record an event in").caused_by(error))
            }
            _ => Ok(()),
        }
    }
}

fn is_command_error(error: &DriverError, code: i32) -> bool {
    matches!(*error.kind, ErrorKind::Command(ref error) if error.code == code)
}
