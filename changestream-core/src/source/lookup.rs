//! The documents that updates are of, as they are now: one query for many updates, and only for those of which a handler
//! takes the document. Where the server looks them up, it does so one by one, and for every update of the stream.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use ahash::{HashMap, RandomState};
use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use mongodb::{Client, action::Action, error::Error as DriverError, options::ReadConcern};
use tokio::time::timeout;

use super::{Batch, fault::Fault, patience::silence};
use crate::{
    bson_walk,
    collection::primary,
    error::{Error, Kind},
    event::{ClusterTime, Operation, RawChange},
    extract::Need,
    filter::{FieldPath, equal},
    handler::BoundHandler,
    key,
    partition::Partition,
    route::Router,
};

/// How many documents are asked for at a time.
const DOCUMENTS: usize = 1_000;

/// How many collections are asked at a time.
const QUERIES: usize = 4;

/// How many bytes the documents may have that are found at a time, and those that a part of a batch is given, unless it is one.
const BYTES: usize = 16 << 20;

/// Adds to updates what `fullDocument: "updateLookup"` would (MongoDB manual, *Change Streams*, "Lookup Full Document for
/// Update Operations"): the committed document, at least as new as the update; null, where it is gone.
pub(crate) struct Lookup {
    client: Client,
    /// Of the handlers that take the document.
    router: Router,
    keys: Vec<Option<FieldPath>>,
    /// What is had of each document, where it is not all.
    projection: Option<Document>,
    partition: Option<Partition>,
}

impl Lookup {
    pub(crate) fn new(
        client: Client,
        default_database: &str,
        handlers: &[BoundHandler],
        projection: Option<Document>,
        partition: Option<Partition>,
    ) -> Self {
        let wanting = || {
            let handlers = handlers.iter();
            handlers.filter(|handler| handler.needs.full_document != Need::No)
        };
        Self {
            client,
            router: Router::new(
                wanting().map(|handler| &handler.selection),
                default_database,
            ),
            keys: wanting().map(|handler| handler.key.clone()).collect(),
            projection,
            partition,
        }
    }

    /// Completes the first events of a batch, as many as the bounds allow; with what is left of the batch.
    pub(super) async fn complete(
        &self,
        mut batch: Batch,
        patience: Duration,
    ) -> Result<(Batch, Option<Batch>), Fault> {
        let events = batch.events.iter().enumerate();
        let wanting = events.filter(|(_, change)| self.is_wanted(change));
        // One more tells where the rest begins.
        let wanting: Vec<_> = wanting
            .map(|(place, _)| place)
            .take(DOCUMENTS + 1)
            .collect();
        let mut count = wanting.len().min(DOCUMENTS);
        while count > 0 {
            let places = &wanting[..count];
            let completed = match timeout(patience, self.completed(&batch.events, places)).await {
                Err(_elapsed) => return Err(Fault::Resumable(silence())),
                Ok(completed) => completed?,
            };
            let Some(completed) = completed else {
                count = (count / 4).max(1);
                continue;
            };
            count = completed.len();
            for (place, change) in wanting.iter().zip(completed) {
                batch.events[*place] = change;
            }
            break;
        }
        let rest = wanting.get(count).map(|place| batch.split_off(*place));
        Ok((batch, rest))
    }

    fn is_wanted(&self, change: &RawChange) -> bool {
        let is_ours = |handler: usize| {
            let key = self.keys[handler].as_ref();
            self.partition
                .is_none_or(|partition| partition.has(change, key))
        };
        *change.operation() == Operation::Update
            && !change.is_header_only()
            && self.router.route(change).any(is_ours)
    }

    /// The first of the events at these places with their documents, as many as the bytes allow; `None` where fewer must be
    /// asked for.
    async fn completed(
        &self,
        events: &[RawChange],
        places: &[usize],
    ) -> Result<Option<Vec<RawChange>>, Fault> {
        let mut queries = BTreeMap::<_, Query>::new();
        let changes = || places.iter().map(|place| &events[*place]);
        for change in changes() {
            let query = queries.entry(namespace(change)).or_default();
            query.add(change)?;
        }
        let left = AtomicUsize::new(BYTES);
        let queries = queries.into_iter();
        let queries: Vec<_> = queries
            .map(|(namespace, query)| query.run(self, namespace, &left).boxed())
            .collect();
        let found = stream::iter(queries).buffer_unordered(QUERIES);
        let found: Vec<_> = found.try_collect().await.map_err(Fault::of_cursor)?;
        let Some(documents) = found.into_iter().collect::<Option<BTreeMap<_, _>>>() else {
            return Ok(None);
        };
        let mut left = BYTES;
        let mut completed = Vec::new();
        for change in changes() {
            let documents = documents.get(&namespace(change));
            let document = documents.and_then(|documents| documents.of(change));
            let size = document.map_or(0, |document| document.as_bytes().len());
            // Of one document, each of its updates has a copy.
            if size > left && !completed.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            completed.push(change.with_full_document(document).map_err(|error| {
                let message = "an update cannot be given the document that it is of";
                Fault::Fatal(Error::new(Kind::Stream, message).caused_by(error))
            })?);
        }
        Ok(Some(completed))
    }
}

fn namespace(change: &RawChange) -> (&str, &str) {
    (change.database(), change.collection().unwrap_or_default())
}

/// Documents of one collection, by `_id`, no older than a time.
#[derive(Default)]
struct Query {
    ids: Vec<Bson>,
    time: Option<ClusterTime>,
}

impl Query {
    fn add(&mut self, change: &RawChange) -> Result<(), Fault> {
        self.time = self.time.max(change.cluster_time());
        if let Some(id) = key::id(change) {
            let id = Bson::try_from(id).map_err(|error| {
                let message = "the `_id` of a changed document cannot be read";
                Fault::Fatal(Error::new(Kind::Stream, message).caused_by(error))
            })?;
            self.ids.push(id);
        }
        Ok(())
    }

    /// `None` where they are more than the bytes that are `left`, unless only one is asked for.
    async fn run<'a>(
        self,
        lookup: &Lookup,
        namespace: (&'a str, &'a str),
        left: &AtomicUsize,
    ) -> Result<Option<((&'a str, &'a str), Documents)>, DriverError> {
        let (database, collection) = namespace;
        let collection = lookup
            .client
            .database(database)
            .collection::<RawDocumentBuf>(collection);
        let mut session = lookup
            .client
            .start_session()
            .causal_consistency(true)
            .await?;
        if let Some(time) = self.time {
            session.advance_operation_time(time.0);
        }
        let is_one = self.ids.len() == 1;
        let find = collection.find(doc! { "_id": { "$in": self.ids } });
        let mut cursor = find
            .optional(lookup.projection.clone(), |find, projection| {
                find.projection(projection)
            })
            .read_concern(ReadConcern::majority())
            .selection_criteria(primary())
            .session(&mut session)
            .await?;
        let mut documents = Documents::default();
        while let Some(document) = cursor.next(&mut session).await {
            let document = document?;
            let size = document.as_bytes().len();
            let taken = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(size));
            if taken.is_err() && !is_one {
                return Ok(None);
            }
            documents.add(document);
        }
        Ok(Some((namespace, documents)))
    }
}

/// Documents of one collection, found by `_id`.
#[derive(Default)]
struct Documents {
    hash: RandomState,
    by_id: HashMap<u64, Vec<RawDocumentBuf>>,
}

impl Documents {
    fn add(&mut self, document: RawDocumentBuf) {
        if let Some(hash) = id(&document).map(|id| self.hash_of(id)) {
            self.by_id.entry(hash).or_default().push(document);
        }
    }

    fn of(&self, change: &RawChange) -> Option<&RawDocument> {
        let wanted = key::id(change)?;
        let mut same = self.by_id.get(&self.hash_of(wanted))?.iter();
        let is_it = |document: &&RawDocumentBuf| id(document).is_some_and(|id| equal(id, wanted));
        same.find(is_it).map(|document| &**document)
    }

    /// Numbers that are equal have one hash, whatever their types, as they are one `_id`.
    fn hash_of(&self, id: RawBsonRef<'_>) -> u64 {
        let mut hasher = self.hash.build_hasher();
        key::write(id, &mut hasher);
        hasher.finish()
    }
}

fn id(document: &RawDocument) -> Option<RawBsonRef<'_>> {
    bson_walk::get(document, "_id")
}
