use async_trait::async_trait;
use bson::doc;
use mongodb::{
    Collection, Database,
    options::{CollectionOptions, WriteConcern},
};

use super::{DeadLetter, DeadLetterStore};
use crate::error::StoreError;

/// Dead letters in a MongoDB collection, written with majority write concern.
#[derive(Clone, Debug)]
pub struct MongoDeadLetters {
    collection: Collection<DeadLetter>,
}

impl MongoDeadLetters {
    /// The default collection's name.
    pub const COLLECTION: &str = "changestream.dead_letters";

    /// In the collection [`COLLECTION`](Self::COLLECTION) of `database`.
    pub fn new(database: &Database) -> Self {
        Self::in_collection(database, Self::COLLECTION)
    }

    /// In the collection `name` of `database`.
    pub fn in_collection(database: &Database, name: &str) -> Self {
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .build();
        Self {
            collection: database.collection_with_options(name, options),
        }
    }
}

#[async_trait]
impl DeadLetterStore for MongoDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let replaced = self
            .collection
            .replace_one(doc! { "_id": letter.id() }, letter)
            .upsert(true)
            .await;
        replaced.map(drop).map_err(|error| {
            let collection = self.collection.namespace();
            StoreError::new(format!("cannot write to `{collection}`")).caused_by(error)
        })
    }
}
