use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::{Collection, Database, error::Result, options::ReturnDocument};
use serde::Deserialize;

use super::{Lease, LeaseStore};
use crate::{
    collection::{durable, is_duplicate_key},
    error::StoreError,
};

/// Leases in a MongoDB collection, one document per runtime, written with majority concern.
///
/// Time is the primary's: each step is one command that the server evaluates against its own clock, and no
/// time of a client is ever sent. Where the clocks of a replica set's members differ, a lease lasts shorter or
/// longer by that much over an election; a holder that is replaced early cannot commit any more.
#[derive(Clone, Debug)]
pub struct MongoLeases {
    collection: Collection<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    holder: Option<String>,
    epoch: i64,
    /// In milliseconds.
    remaining: i64,
}

#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "_id")]
    name: String,
    #[serde(flatten)]
    record: Record,
}

impl From<Record> for Lease {
    fn from(record: Record) -> Self {
        let remaining = u64::try_from(record.remaining).unwrap_or_default();
        Self::new(
            record.holder,
            record.epoch,
            Duration::from_millis(remaining),
        )
    }
}

impl MongoLeases {
    /// The default collection's name.
    pub const COLLECTION: &str = "changestream.leases";

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

    /// What a [`Record`] is made of.
    fn projection() -> Document {
        let remaining = doc! { "$subtract": ["$expiresAt", "$$NOW"] };
        doc! { "_id": 0, "holder": 1, "epoch": 1, "remaining": remaining }
    }

    /// Where `may` holds, gives the lease to `holder` in `epoch` for `time`; the lease as it is then.
    async fn give(
        &self,
        name: &str,
        may: Document,
        holder: &str,
        epoch: impl Into<Bson>,
        time: Duration,
    ) -> Result<Lease> {
        let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let given = doc! {
            "_id": "$_id",
            "holder": { "$literal": holder },
            "epoch": epoch,
            "expiresAt": { "$add": ["$$NOW", time] },
        };
        let update = vec![doc! { "$replaceWith": { "$cond": [may, given, "$$ROOT"] } }];
        loop {
            let updating = self
                .collection
                .find_one_and_update(doc! { "_id": name }, update.clone());
            let updated = updating
                .upsert(true)
                .return_document(ReturnDocument::After)
                .projection(Self::projection());
            match updated.await {
                Ok(Some(record)) => return Ok(record.into()),
                // Another one created or removed it at the same time.
                Ok(None) => {}
                Err(error) if is_duplicate_key(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn error(&self, what: &str, name: &str, error: mongodb::error::Error) -> StoreError {
        let collection = self.collection.namespace();
        StoreError::new(format!(
            "cannot {what} the lease `{name}` in `{collection}`"
        ))
        .caused_by(error)
    }
}

fn is_own(holder: &str) -> Document {
    doc! { "$eq": ["$holder", { "$literal": holder }] }
}

#[async_trait]
impl LeaseStore for MongoLeases {
    async fn load(&self, name: &str) -> std::result::Result<Option<Lease>, StoreError> {
        let finding = self.collection.find_one(doc! { "_id": name });
        let found = finding.projection(Self::projection()).await;
        found
            .map(|record| record.map(Lease::from))
            .map_err(|error| self.error("read", name, error))
    }

    async fn load_all(
        &self,
        names: &[String],
    ) -> std::result::Result<Vec<Option<Lease>>, StoreError> {
        let found = async {
            let mut projection = Self::projection();
            projection.insert("_id", 1);
            let collection = self.collection.clone_with_type::<Named>();
            let finding = collection.find(doc! { "_id": { "$in": names } });
            let found = finding.projection(projection).await?;
            found.try_collect::<Vec<_>>().await
        };
        let found = found.await;
        let found = found.map_err(|error| self.error("read", &names.join("`, `"), error))?;
        let found = found.into_iter();
        let mut found: HashMap<_, _> = found.map(|named| (named.name, named.record)).collect();
        let leases = names.iter().map(|name| found.remove(name).map(Lease::from));
        Ok(leases.collect())
    }

    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        time: Duration,
        above: i64,
    ) -> std::result::Result<Lease, StoreError> {
        let is_free = doc! { "$or": [
            { "$lte": ["$holder", null] },
            { "$lte": ["$expiresAt", "$$NOW"] },
        ] };
        let may = doc! { "$or": [is_own(holder), is_free] };
        let next = doc! { "$add": [{ "$max": ["$epoch", above] }, 1_i64] };
        let epoch = doc! { "$cond": [is_own(holder), "$epoch", next] };
        let acquired = self.give(name, may, holder, epoch, time).await;
        acquired.map_err(|error| self.error("acquire", name, error))
    }

    async fn renew(
        &self,
        name: &str,
        lease: &Lease,
        time: Duration,
    ) -> std::result::Result<Lease, StoreError> {
        let holder = lease.holder.as_deref().unwrap_or_default();
        let is_lost = doc! { "$lte": ["$epoch", null] };
        let may = doc! { "$or": [is_own(holder), is_lost] };
        let renewed = self.give(name, may, holder, lease.epoch, time).await;
        renewed.map_err(|error| self.error("renew", name, error))
    }

    async fn release(&self, name: &str, holder: &str) -> std::result::Result<(), StoreError> {
        let free = vec![
            doc! { "$set": { "expiresAt": "$$NOW" } },
            doc! { "$unset": "holder" },
        ];
        let released = self
            .collection
            .update_one(doc! { "_id": name, "holder": holder }, free)
            .await;
        released
            .map(drop)
            .map_err(|error| self.error("release", name, error))
    }
}
