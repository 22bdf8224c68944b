use async_trait::async_trait;
use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::{Collection, Database};

use super::{SnapshotRecord, SnapshotStore};
use crate::{
    checkpoint::Saved,
    collection::{durable, is_duplicate_key},
    error::StoreError,
};

/// The progress of snapshots in a MongoDB collection, one document per runtime and collection, read and written with
/// majority concern.
#[derive(Clone, Debug)]
pub struct MongoSnapshots {
    collection: Collection<Document>,
}

impl MongoSnapshots {
    /// The default collection's name.
    pub const COLLECTION: &str = "changestream.snapshots";

    /// In the collection [`COLLECTION`](Self::COLLECTION) of `database`.
    pub fn new(database: &Database) -> Self {
        Self::in_collection(database, Self::COLLECTION)
    }

    /// In the collection `name` of `database`.
    pub fn in_collection(database: &Database, name: &str) -> Self {
        Self {
            collection: durable(database, name),
        }
    }

    fn error(&self, what: &str, runtime: &str) -> StoreError {
        let collection = self.collection.namespace();
        StoreError::new(format!(
            "cannot {what} the snapshots of `{runtime}` in `{collection}`"
        ))
    }
}

#[async_trait]
impl SnapshotStore for MongoSnapshots {
    async fn load(&self, runtime: &str) -> Result<Vec<SnapshotRecord>, StoreError> {
        let finding = async {
            let found = self.collection.find(doc! { "_id.runtime": runtime });
            found.await?.try_collect::<Vec<_>>().await
        };
        let found = finding.await;
        let found = found.map_err(|error| self.error("read", runtime).caused_by(error))?;
        let records = found.into_iter().map(|document| {
            bson::deserialize_from_document(document)
                .map_err(|error| self.error("decode", runtime).caused_by(error))
        });
        records.collect()
    }

    async fn save(&self, runtime: &str, record: &SnapshotRecord) -> Result<Saved, StoreError> {
        let fields = bson::serialize_to_document(record)
            .map_err(|error| self.error("encode", runtime).caused_by(error))?;
        let id = doc! {
            "runtime": runtime, "database": &record.database, "collection": &record.collection,
        };
        let own = doc! { "_id": id, "epoch": { "$not": { "$gt": record.epoch } } };
        let update = doc! { "$set": fields, "$currentDate": { "savedAt": true } };
        match self.collection.update_one(own, update).upsert(true).await {
            Ok(_) => Ok(Saved::Yes),
            Err(error) if is_duplicate_key(&error) => Ok(Saved::Stale),
            Err(error) => Err(self.error("save", runtime).caused_by(error)),
        }
    }
}
