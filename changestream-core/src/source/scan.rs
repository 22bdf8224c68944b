//! The reads of a snapshot: collections, part by part.

use std::{future::Future, time::Duration};

use bson::{RawBson, RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};
use futures::{StreamExt, TryStreamExt};
use mongodb::{
    Client, Database, error::Result as DriverResult, options::ReadConcern, results::CollectionType,
};
use tokio::time::{sleep, timeout};

use super::{
    fault::Fault,
    patience::{Patience, silence},
};
use crate::{
    collection::primary,
    error::{Error, Kind, brief},
    event::Namespace,
    layer::Backoff,
};

/// Between attempts at a read.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// How many documents are drawn for each range whose bound is looked for.
const SAMPLES: usize = 16;

/// Reads one collection from the primary, as a majority has it, and tries again for as long as the deployment
/// is not itself.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    client: Client,
    database: String,
    collection: String,
    filter: RawDocumentBuf,
    /// What is had of each document, where it is not all.
    projection: Option<RawDocumentBuf>,
    /// How long a reply may take before its connection counts as dead.
    patience: Duration,
}

/// Which documents of a collection to read.
///
/// Documents are told apart by their keys, `{_id: ..}`. Comparisons of `_id` in the query language are
/// type-bracketed, so that `$gt` never gets from numbers to strings; bounds of the index do, and so does `$expr`.
#[derive(Clone, Debug)]
pub(crate) enum Part<'a> {
    /// The first of those from one key on, after another one, and before a third.
    Range {
        from: Option<&'a RawDocument>,
        after: Option<&'a RawDocument>,
        to: Option<&'a RawDocument>,
    },
    /// Those with these keys.
    Keys(&'a [RawDocumentBuf]),
}

/// What a read brought.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) documents: Vec<RawDocumentBuf>,
    /// No more than these were to be read.
    pub(crate) is_last: bool,
    /// When it was over: no document is newer.
    pub(crate) read_at: Timestamp,
}

impl Scan {
    pub(crate) fn new(
        client: Client,
        database: &str,
        collection: &str,
        filter: RawDocumentBuf,
        projection: Option<RawDocumentBuf>,
        patience: Duration,
    ) -> Self {
        Self {
            client,
            database: database.to_owned(),
            collection: collection.to_owned(),
            filter,
            projection,
            patience,
        }
    }

    pub(crate) fn namespace(&self) -> Namespace {
        Namespace::new(&self.database, Some(self.collection.clone()))
    }

    /// The time by the server's logical clock.
    pub(crate) async fn now(&self) -> Result<Timestamp, Error> {
        let pong = self.patiently(|| async {
            let admin = self.client.database("admin");
            let ping = admin.run_command(doc! { "ping": 1 });
            ping.selection_criteria(primary()).await
        });
        let time = pong.await?.get_timestamp("operationTime");
        time.map_err(|error| self.unreadable().caused_by(error))
    }

    /// At most `limit` documents of `part`, in the order of their keys, none of them older than `since`.
    pub(crate) async fn read(
        &self,
        part: &Part<'_>,
        limit: usize,
        since: Timestamp,
    ) -> Result<Page, Error> {
        let mut page = self.read_once(part, limit, since).await?;
        if let Part::Range {
            from,
            after,
            to: None,
        } = part
            && let Some(min) = after.or(*from)
            && page.is_last
        {
            // Where `min` is given and `max` is not, the server leaves out the greatest key of all.
            let greatest = rawdoc! { "_id": RawBson::MaxKey };
            if min.as_bytes() != greatest.as_bytes() {
                let last = self.read_once(&Part::Keys(&[greatest]), 1, since).await?;
                page.documents.extend(last.documents);
                page.read_at = last.read_at;
            }
        }
        Ok(page)
    }

    async fn read_once(
        &self,
        part: &Part<'_>,
        limit: usize,
        since: Timestamp,
    ) -> Result<Page, Error> {
        let find = self.find(part, limit, since);
        let reply = self.patiently(|| async {
            let database = self.client.database(&self.database);
            let reading = database.run_raw_cursor_command(find.clone());
            let mut cursor = reading.selection_criteria(primary()).batch().await?;
            cursor.next().await.transpose()
        });
        let reply = reply.await?;
        let page = reply.and_then(|reply| page(reply.as_raw_document(), limit));
        page.ok_or_else(|| self.unreadable())
    }

    fn find(&self, part: &Part<'_>, limit: usize, since: Timestamp) -> RawDocumentBuf {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let filter = match part {
            Part::Range { after: None, .. } => self.filter.clone(),
            Part::Range {
                after: Some(after), ..
            } => {
                let after = rawdoc! { "$literal": id(after) };
                let is_after = rawdoc! { "$expr": { "$gt": ["$_id", after] } };
                rawdoc! { "$and": [is_after, self.filter.clone()] }
            }
            Part::Keys(keys) => {
                let ids: bson::RawArrayBuf = keys.iter().map(|key| id(key)).collect();
                rawdoc! { "$and": [{ "_id": { "$in": ids } }, self.filter.clone()] }
            }
        };
        let mut find = rawdoc! {
            "find": self.collection.as_str(),
            "filter": filter,
            "sort": { "_id": 1 },
            "hint": { "_id": 1 },
            "limit": limit,
            "batchSize": limit,
            "readConcern": { "level": "majority", "afterClusterTime": since },
        };
        if let Some(projection) = &self.projection {
            find.append(bson::cstr!("projection"), projection.clone());
        }
        if let Part::Range { from, after, to } = part {
            if let Some(min) = after.or(*from) {
                find.append(bson::cstr!("min"), min.to_owned());
            }
            if let Some(max) = to {
                find.append(bson::cstr!("max"), (*max).to_owned());
            }
        }
        find
    }

    /// Keys that part the collection into up to `ranges` ranges of about equal size, none of them below `least`
    /// documents.
    pub(crate) async fn bounds(
        &self,
        ranges: usize,
        least: usize,
    ) -> Result<Vec<RawDocumentBuf>, Error> {
        let collection = self
            .client
            .database(&self.database)
            .collection::<RawDocumentBuf>(&self.collection);
        let mut drawn = self
            .patiently(|| async {
                let counting = collection.estimated_document_count();
                let documents = counting.selection_criteria(primary()).await?;
                let ranges = usize::try_from(documents).unwrap_or(usize::MAX) / least.max(1);
                if ranges < 2 {
                    return Ok(Vec::new());
                }
                let size = i64::try_from(ranges.min(SAMPLES * 256)).unwrap_or(i64::MAX);
                let pipeline = vec![
                    doc! { "$sample": { "size": size } },
                    doc! { "$project": { "_id": 1 } },
                    doc! { "$sort": { "_id": 1 } },
                ];
                let drawing = collection
                    .aggregate(pipeline)
                    .read_concern(ReadConcern::majority());
                let drawing = drawing.selection_criteria(primary());
                let drawn = drawing.with_type::<RawDocumentBuf>().await?;
                drawn.try_collect::<Vec<_>>().await
            })
            .await?;
        drawn.dedup();
        // No bounds: nothing is on the far side of them.
        drawn.retain(|key| !matches!(id(key), RawBson::MinKey | RawBson::MaxKey));
        Ok(evenly(drawn, ranges.saturating_sub(1)))
    }

    async fn patiently<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = DriverResult<T>>,
    {
        patiently(&self.what(), self.patience, attempt).await
    }

    fn what(&self) -> String {
        format!("`{}` cannot be read for a snapshot", self.namespace())
    }

    /// That a reply is none.
    fn unreadable(&self) -> Error {
        Error::new(Kind::Snapshot, self.what())
    }
}

/// The collections of `database`, without views, time series and the server's own.
pub(crate) async fn collections(
    database: &Database,
    patience: Duration,
) -> Result<Vec<String>, Error> {
    let what = format!("the collections of `{}` cannot be listed", database.name());
    let listed = patiently(&what, patience, || async {
        database
            .list_collections()
            .await?
            .try_collect::<Vec<_>>()
            .await
    });
    let listed = listed.await?.into_iter();
    let listed = listed.filter(|listed| {
        listed.collection_type == CollectionType::Collection && !listed.name.starts_with("system.")
    });
    Ok(listed.map(|listed| listed.name).collect())
}

/// Tries until it succeeds, or fails for another reason than the deployment's state.
async fn patiently<T, F>(
    what: &str,
    patience: Duration,
    attempt: impl Fn() -> F,
) -> Result<T, Error>
where
    F: Future<Output = DriverResult<T>>,
{
    let mut patience = Patience::new(patience);
    let mut failures = 0;
    loop {
        let error = match timeout(patience.time(), attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => match Fault::of_cursor(error) {
                Fault::Resumable(error) | Fault::Transient(error) => error,
                fault => return Err(fault.into_error().reworded(Kind::Snapshot, what)),
            },
            Err(_elapsed) => silence(),
        };
        patience.failed(&error);
        failures += 1;
        let wait = BACKOFF.wait(failures);
        tracing::warn!(
            failures,
            ?wait,
            error = brief(&error),
            "{what}; it is tried again"
        );
        sleep(wait).await;
    }
}

/// The `_id` of a key.
fn id(key: &RawDocument) -> RawBson {
    let id = key.get("_id").ok().flatten();
    id.map_or(RawBson::Null, RawBson::from)
}

fn page(reply: &RawDocument, limit: usize) -> Option<Page> {
    let cursor = reply.get_document("cursor").ok()?;
    let batch = cursor.get_array("firstBatch").ok()?;
    let documents = batch
        .into_iter()
        .map(|document| Some(document.ok()?.as_document()?.to_owned()));
    let documents: Vec<_> = documents.collect::<Option<_>>()?;
    let is_whole = cursor.get_i64("id").ok()? == 0;
    Some(Page {
        is_last: is_whole && documents.len() < limit,
        documents,
        read_at: reply.get_timestamp("operationTime").ok()?,
    })
}

/// `count` of `items`, evenly spread, the ends left out.
fn evenly<T>(items: Vec<T>, count: usize) -> Vec<T> {
    let parts = count.min(items.len()) + 1;
    let length = items.len();
    let mut wanted = (1..parts).map(|part| part * length / parts).peekable();
    let items = items.into_iter().enumerate();
    items
        .filter(|(place, _)| wanted.next_if_eq(place).is_some())
        .map(|(_, item)| item)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_part_evenly() {
        assert_eq!(evenly((0..40).collect(), 3), [10, 20, 30]);
        assert_eq!(evenly(vec![1, 2, 3], 5), [1, 2, 3]);
        assert_eq!(evenly(vec![1, 2, 3], 0), [0; 0]);
        assert!(evenly(Vec::<i32>::new(), 3).is_empty());
    }
}
