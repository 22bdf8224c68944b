use async_trait::async_trait;
use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::{Collection, Database, IndexModel, options::IndexOptions};

use super::{DeadLetter, DeadLetterFilter, DeadLetterStore, DeadLetterSummary, ReplayMark};
use crate::{collection::durable, error::StoreError};

/// Dead letters in a MongoDB collection, read and written with majority concern.
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
        Self {
            collection: durable(database, name),
        }
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(mongodb::error::Error) -> StoreError {
        let collection = self.collection.namespace();
        move |error| StoreError::new(format!("cannot {what} `{collection}`")).caused_by(error)
    }
}

#[async_trait]
impl DeadLetterStore for MongoDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let replacing = self
            .collection
            .replace_one(doc! { "_id": letter.id() }, letter)
            .upsert(true);
        replacing.await.map(drop).map_err(self.failed("write to"))
    }

    async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterSummary>,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StoreError> {
        if limit == 0 {
            // Which the server takes for no limit.
            return Ok(Vec::new());
        }
        let summaries = self.collection.clone_with_type::<DeadLetterSummary>();
        let found = summaries
            .find(query(filter, after))
            .sort(doc! { "token._data": 1, "_id": 1 })
            .limit(limit.into())
            .projection(doc! { "change": 0, "message": 0 })
            .await;
        let found = found.map_err(self.failed("list letters of"))?;
        found
            .try_collect()
            .await
            .map_err(self.failed("list letters of"))
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let found = self.collection.find_one(doc! { "_id": id }).await;
        found.map_err(self.failed("read a letter of"))
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let removed = self.collection.delete_one(doc! { "_id": id }).await;
        let removed = removed.map_err(self.failed("remove a letter from"))?;
        Ok(removed.deleted_count > 0)
    }

    async fn mark(&self, id: &str, mark: &ReplayMark) -> Result<bool, StoreError> {
        let (state, update) = marking(mark);
        let mut query = doc! { "_id": id };
        query.extend(state);
        let marked = self.collection.update_one(query, update).await;
        let marked = marked.map_err(self.failed("mark a letter of"))?;
        Ok(marked.matched_count > 0)
    }

    async fn prepare(&self) -> Result<(), StoreError> {
        let requests = IndexModel::builder()
            .keys(doc! { "replay.requestedAt": 1 })
            .options(IndexOptions::builder().sparse(true).build())
            .build();
        let order = IndexModel::builder()
            .keys(doc! { "runtime": 1, "token._data": 1, "_id": 1 })
            .build();
        let made = self.collection.create_indexes([requests, order]).await;
        made.map(drop).map_err(self.failed("make the indexes of"))
    }
}

fn query(filter: &DeadLetterFilter, after: Option<&DeadLetterSummary>) -> Document {
    let fields = [
        ("_id", &filter.id),
        ("runtime", &filter.runtime),
        ("handler", &filter.handler),
        ("sink", &filter.sink),
        ("kind", &filter.kind),
    ];
    let wanted = fields.into_iter();
    let wanted = wanted.filter_map(|(field, value)| Some((field, value.as_deref()?)));
    // Within `$and`, an `_id` here does not stand in the way of the one below.
    let mut all: Vec<_> = wanted.map(|(field, value)| doc! { field: value }).collect();
    if filter.awaits_replay {
        all.push(doc! {
            "replay.requestedAt": { "$exists": true },
            "replay.refused": { "$exists": false },
        });
    }
    if let Some((data, id)) = after.map(DeadLetterSummary::place) {
        all.push(doc! { "$or": [
            { "token._data": { "$gt": data } },
            { "token._data": data, "_id": { "$gt": id } },
        ] });
    }
    match all.is_empty() {
        true => Document::new(),
        false => doc! { "$and": all },
    }
}

/// The state in which a letter can be marked, and the update that does it.
fn marking(mark: &ReplayMark) -> (Document, Document) {
    let requested = || doc! { "replay.requestedAt": { "$exists": true } };
    match mark {
        ReplayMark::Requested { by } => {
            let mut set = Document::new();
            let mut unset = doc! { "replay.takenAt": "", "replay.refused": "" };
            match by {
                Some(by) => set.insert("replay.requestedBy", by),
                None => unset.insert("replay.requestedBy", Bson::from("")),
            };
            let mut update =
                doc! { "$unset": unset, "$currentDate": { "replay.requestedAt": true } };
            if !set.is_empty() {
                update.insert("$set", set);
            }
            (Document::new(), update)
        }
        ReplayMark::Taken => {
            let update = doc! { "$currentDate": { "replay.takenAt": true } };
            (requested(), update)
        }
        ReplayMark::Refused { reason } => {
            let update = doc! { "$set": { "replay.refused": reason } };
            (requested(), update)
        }
        ReplayMark::Withdrawn => {
            let mut untaken = requested();
            untaken.insert("replay.takenAt", doc! { "$exists": false });
            (untaken, doc! { "$unset": { "replay": "" } })
        }
    }
}
