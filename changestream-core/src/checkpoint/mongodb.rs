use async_trait::async_trait;
use bson::{Document, doc};
use mongodb::{
    Collection, Database,
    error::{ErrorKind, WriteFailure},
    options::{
        CollectionOptions, ReadConcern, ReadPreference, ReturnDocument, SelectionCriteria,
        WriteConcern,
    },
};

use super::{Checkpoint, CheckpointStore, Claimed, Saved};
use crate::error::StoreError;

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

    fn decode(&self, document: Document, runtime: &str) -> Result<Checkpoint, StoreError> {
        bson::deserialize_from_document(document)
            .map_err(|error| self.error("decode", runtime).caused_by(error))
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
            .map(|document| self.decode(document, runtime))
            .transpose()
    }

    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError> {
        let earlier = doc! { "_id": runtime, "epoch": { "$not": { "$gte": epoch } } };
        let update = doc! { "$set": { "epoch": epoch } };
        // Two first claims may collide, and then the second look tells which one is earlier.
        for _ in 0..2 {
            let claiming = self
                .collection
                .find_one_and_update(earlier.clone(), update.clone());
            let claiming = claiming.upsert(true);
            match claiming.return_document(ReturnDocument::After).await {
                Ok(Some(document)) => return self.decode(document, runtime).map(Claimed::Yes),
                Ok(None) => {}
                Err(error) if is_duplicate_key(&error) => {}
                Err(error) => return Err(self.error("claim", runtime).caused_by(error)),
            }
        }
        Ok(Claimed::Stale)
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        let fields = bson::serialize_to_document(checkpoint)
            .map_err(|error| self.error("encode", runtime).caused_by(error))?;
        let absent = ["kind", "token", "time", "partitioning"].into_iter();
        let absent: Document = absent
            .filter(|field| !fields.contains_key(field))
            .map(|field| (field.to_owned(), "".into()))
            .collect();
        let own = doc! {
            "_id": runtime, "epoch": checkpoint.epoch, "sequence": { "$not": { "$gt": checkpoint.sequence } },
        };
        let update = doc! { "$set": fields, "$unset": absent, "$currentDate": { "savedAt": true } };
        match self.collection.update_one(own, update).upsert(true).await {
            Ok(_) => Ok(Saved::Yes),
            Err(error) if is_duplicate_key(&error) => Ok(Saved::Stale),
            Err(error) => Err(self.error("save", runtime).caused_by(error)),
        }
    }
}

/// Whether an upsert found that the document exists but does not match.
pub(crate) fn is_duplicate_key(error: &mongodb::error::Error) -> bool {
    const DUPLICATE_KEY: i32 = 11000;
    match *error.kind {
        ErrorKind::Write(WriteFailure::WriteError(ref error)) => error.code == DUPLICATE_KEY,
        ErrorKind::Command(ref error) => error.code == DUPLICATE_KEY,
        _ => false,
    }
}
