use async_trait::async_trait;
use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::{Collection, Database, options::ReturnDocument};

use super::{Checkpoint, CheckpointStore, Claimed, Saved, StoredCheckpoint};
use crate::{
    collection::{durable, is_duplicate_key},
    connection::close_if_unauthorized,
    error::StoreError,
    gap::Gap,
    mutant, partition,
};

/// Checkpoints in a MongoDB collection, one document per runtime, read and written with majority
/// concern; gaps beside it, in the collection [`GAPS`](Self::GAPS).
#[derive(Clone, Debug)]
pub struct MongoCheckpoints {
    collection: Collection<Document>,
    gaps: Collection<Gap>,
}

impl MongoCheckpoints {
    /// The default collection's name.
    pub const COLLECTION: &str = "changestream.checkpoints";

    /// The name of the collection of gaps.
    pub const GAPS: &str = "changestream.gaps";

    /// In the collection [`COLLECTION`](Self::COLLECTION) of `database`.
    pub fn new(database: &Database) -> Self {
        Self::in_collection(database, Self::COLLECTION)
    }

    /// In the collection `name` of `database`.
    pub fn in_collection(database: &Database, name: &str) -> Self {
        Self {
            gaps: durable(database, Self::GAPS),
            collection: durable(database, name),
        }
    }

    fn decode(&self, document: Document, runtime: &str) -> Result<Checkpoint, StoreError> {
        bson::deserialize_from_document(document)
            .map_err(|error| self.error("decode", runtime).caused_by(error))
    }

    /// The names of the checkpoints of `runtime`: its own, and those of its partitions.
    async fn names(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        let [first, end] = partition::names(runtime);
        let partitions = doc! { "_id": { "$gte": first, "$lt": end } };
        let all = doc! { "$or": [{ "_id": runtime }, partitions] };
        let finding = async {
            let found = self.collection.find(all).sort(doc! { "_id": 1 });
            let found = found.projection(doc! { "_id": 1 }).await?;
            found.try_collect::<Vec<_>>().await
        };
        let found = finding.await;
        let found = found.map_err(|error| self.error("read", runtime).caused_by(error))?;
        let names = found.iter().filter_map(|found| found.get_str("_id").ok());
        let names = names.filter(|name| *name == runtime || partition::is_of(name, runtime));
        Ok(names.map(str::to_owned).collect())
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
        let own = match mutant::is_broken("no_fence") {
            true => doc! { "_id": runtime },
            false => doc! {
                "_id": runtime, "epoch": checkpoint.epoch, "sequence": { "$not": { "$gt": checkpoint.sequence } },
            },
        };
        let update = doc! { "$set": fields, "$unset": absent, "$currentDate": { "savedAt": true } };
        match self.collection.update_one(own, update).upsert(true).await {
            Ok(_) => Ok(Saved::Yes),
            Err(error) if is_duplicate_key(&error) => Ok(Saved::Stale),
            Err(error) => {
                close_if_unauthorized(self.collection.client(), &error).await;
                Err(self.error("save", runtime).caused_by(error))
            }
        }
    }

    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        let replaced = self.gaps.replace_one(doc! { "_id": &gap.id }, gap);
        replaced.upsert(true).await.map(drop).map_err(|error| {
            let collection = self.gaps.namespace();
            StoreError::new(format!("cannot write to `{collection}`")).caused_by(error)
        })
    }

    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let failed = |error: mongodb::error::Error| {
            let collection = self.collection.namespace();
            StoreError::new(format!("cannot list the checkpoints in `{collection}`"))
                .caused_by(error)
        };
        let found = self.collection.find(doc! {}).sort(doc! { "_id": 1 }).await;
        let found: Vec<_> = found.map_err(failed)?.try_collect().await.map_err(failed)?;
        let stored = found.into_iter().map(|stored| {
            let runtime = stored.get("_id").map(|id| match id.as_str() {
                Some(name) => name.to_owned(),
                None => id.to_string(),
            });
            let runtime = runtime.unwrap_or_default();
            StoredCheckpoint {
                saved_at: stored.get_datetime("savedAt").ok().copied(),
                checkpoint: self.decode(stored, &runtime),
                runtime,
            }
        });
        Ok(stored.collect())
    }

    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        let mut reset = Vec::new();
        for name in self.names(runtime).await? {
            // Rubbish goes too.
            let parts = ["kind", "token", "time", "fingerprint", "sequence"];
            let parts = parts.map(|part| doc! { part: { "$exists": true } });
            let placed = doc! { "_id": &name, "$or": parts.to_vec() };
            let epoch = doc! { "$cond": [{ "$isNumber": "$epoch" }, "$epoch", 0_i64] };
            let kept = vec![doc! { "$project": { "epoch": epoch } }];
            let updated = self.collection.update_one(placed, kept).await;
            let updated = updated.map_err(|error| self.error("reset", &name).caused_by(error))?;
            if updated.matched_count > 0 {
                reset.push(name);
            }
        }
        Ok(reset)
    }
}
