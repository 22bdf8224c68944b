use async_trait::async_trait;
use bson::{Document, doc};
use mongodb::{
    Collection, Database,
    error::{ErrorKind, WriteFailure},
    options::{CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern},
};

use super::{Checkpoint, CheckpointStore, Saved};
use crate::{connection::close_if_unauthorized, error::StoreError};

/// Checkpoints in a MongoDB collection, one document per runtime, read and written with majority
/// concern.
#[derive(Clone, Debug)]
pub struct MongoCheckpoints {
    collection: Collection<Document>,
}

impl MongoCheckpoints {
    /// The default collection's name.
    pub const COLLECTION: &str = "changestream.checkpoints";

    /// In the collection [`COLLECTION`](Self::COLLECTION) of `database`.
    pub fn new(database: &Database) -> Self {
        Self::in_collection(database, Self::COLLECTION)
    }

    /// In the collection `name` of `database`.
    pub fn in_collection(database: &Database, name: &str) -> Self {
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .write_concern(WriteConcern::majority())
            .build();
        Self {
            collection: database.collection_with_options(name, options),
        }
    }

    fn error(&self, what: &str, runtime: &str) -> StoreError {
        let collection = self.collection.namespace();
        StoreError::new(format!(
            "cannot {what} the checkpoint of `{runtime}` in `{collection}`"
        ))
    }
}

#[async_trait]
impl CheckpointStore for MongoCheckpoints {
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError> {
        let found = self.collection.find_one(doc! { "_id": runtime }).await;
        let found = found.map_err(|error| self.error("read", runtime).caused_by(error))?;
        found
            .map(bson::deserialize_from_document)
            .transpose()
            .map_err(|error| self.error("decode", runtime).caused_by(error))
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        let fields = bson::serialize_to_document(checkpoint)
            .map_err(|error| self.error("encode", runtime).caused_by(error))?;
        let older = doc! { "_id": runtime, "sequence": { "$lt": checkpoint.sequence } };
        let update = doc! { "$set": fields, "$currentDate": { "savedAt": true } };
        // Two first checkpoints may collide, and then the second look tells which one is older.
        for _ in 0..2 {
            let saving = self.collection.update_one(older.clone(), update.clone());
            match saving.upsert(true).await {
                Ok(_) => return Ok(Saved::Yes),
                Err(error) if is_duplicate_key(&error) => {}
                Err(error) => {
                    close_if_unauthorized(self.collection.client(), &error).await;
                    return Err(self.error("save", runtime).caused_by(error));
                }
            }
        }
        Ok(Saved::Stale)
    }
}

/// Whether an upsert found that the document exists but is not older.
fn is_duplicate_key(error: &mongodb::error::Error) -> bool {
    const DUPLICATE_KEY: i32 = 11000;
    matches!(
        *error.kind,
        ErrorKind::Write(WriteFailure::WriteError(ref error)) if error.code == DUPLICATE_KEY
    )
}
