use std::{
    collections::{BTreeSet, HashSet},
    future::{Future, pending},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use bson::RawDocumentBuf;
use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt, try_join_all},
    stream::FuturesUnordered,
};
use metrics::Counter;
use mongodb::Client;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};

use super::{
    Chunk, Progress, Requests, Snapshot, SnapshotRecord, Windows, pacer::Pacer, reader::Reader,
    request::Request,
};
use crate::{
    config::Config,
    error::{Error, Kind},
    event::Operation,
    filter::{Selection, own_collections},
    shutdown::stopped,
    source::{Plan, Scan, collections},
};

/// How long the server waits for a change while documents wait for the stream to come to them.
const SHORT_AWAIT_TIME: Duration = Duration::from_millis(20);

/// Takes the snapshots of a runtime, those that its start asks for and those that others ask for.
pub(crate) struct SnapshotTask {
    pub(crate) client: Client,
    /// The runtime's database.
    pub(crate) database: String,
    pub(crate) config: Config,
    pub(crate) progress: Progress,
    pub(crate) targets: Targets,
    /// Of the documents, as a `find` has it.
    pub(crate) projection: Option<RawDocumentBuf>,
    /// The runtime begins without a position.
    pub(crate) is_first_start: bool,
    pub(crate) windows: Arc<Windows>,
    pub(crate) chunks: mpsc::Sender<Chunk>,
    pub(crate) await_time: watch::Sender<Duration>,
    pub(crate) requests: Requests,
}

/// Of which databases and collections handlers receive snapshots; without a collection, of all in the database.
#[derive(Clone, Debug)]
pub(crate) struct Targets(BTreeSet<(String, Option<String>)>);

impl Targets {
    pub(crate) fn of(selections: &[Selection], default_database: &str) -> Self {
        let takes = |selection: &&Selection| selection.selects(&Operation::Snapshot);
        let mut targets = BTreeSet::new();
        for selection in selections.iter().filter(takes) {
            let database = selection.database.as_deref().unwrap_or(default_database);
            let mut add = |collection| targets.insert((database.to_owned(), collection));
            if selection.collections.is_empty() {
                add(None);
            }
            for collection in &selection.collections {
                add(Some(collection.clone()));
            }
        }
        Self(targets)
    }

    fn include(&self, database: &str, collection: &str) -> bool {
        let has = |collection: Option<String>| self.0.contains(&(database.to_owned(), collection));
        has(Some(collection.to_owned())) || has(None) && !own_collections().contains(&collection)
    }
}

impl SnapshotTask {
    /// Takes snapshots until it is told to stop, or one cannot be taken.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => Ok(()),
            result = self.work() => result,
        }
    }

    /// In place of [`run`](Self::run) where the work is shared by partitions: whoever asks for a snapshot is refused.
    pub(crate) async fn refuse(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let refusing = async {
            let mut requests = Arc::clone(&self.requests).lock_owned().await;
            loop {
                let message = "snapshots are taken with 1 partition only";
                let refused = Err(Error::new(Kind::Snapshot, message));
                next(&mut requests).await.done.send(refused).ok();
            }
        };
        tokio::select! {
            biased;
            () = stopped(&mut stop) => Ok(()),
            () = refusing => Ok(()),
        }
    }

    async fn work(&self) -> Result<(), Error> {
        let mut requests = Arc::clone(&self.requests).lock_owned().await;
        let taking = Taking::new(self);
        let mut jobs: FuturesUnordered<BoxFuture<'_, Result<(), Error>>> = FuturesUnordered::new();
        for record in self.due().await? {
            jobs.push(taking.durably(record).boxed());
        }
        loop {
            let await_time = match jobs.is_empty() {
                true => Plan::MAX_AWAIT_TIME,
                false => SHORT_AWAIT_TIME,
            };
            self.await_time
                .send_if_modified(|current| std::mem::replace(current, await_time) != await_time);
            tokio::select! {
                Some(result) = jobs.next(), if !jobs.is_empty() => result?,
                request = next(&mut requests) => jobs.push(taking.asked_for(request).boxed()),
            }
        }
    }

    /// The snapshots that the start asks for and that are not done.
    async fn due(&self) -> Result<Vec<SnapshotRecord>, Error> {
        let mut records = match self.config.snapshot {
            Snapshot::Never => return Ok(Vec::new()),
            Snapshot::WhenNeeded if self.is_first_start => self.progress.start_over().await?,
            Snapshot::Initial | Snapshot::WhenNeeded => self.progress.load().await?,
        };
        for (database, collection) in &self.targets.0 {
            let has_record = records.iter().any(|record| {
                record.database == *database
                    && record.collection == *collection
                    && (collection.is_some() || record.is_done())
            });
            if has_record {
                continue;
            }
            let mut whole =
                SnapshotRecord::new(database, collection.as_deref(), self.progress.epoch);
            if collection.is_some() {
                self.progress.save(&whole).await?;
                records.push(whole);
                continue;
            }
            let handle = self.client.database(database);
            let known: HashSet<_> = records
                .iter()
                .filter(|record| record.database == *database)
                .filter_map(|record| record.collection.clone())
                .collect();
            for name in collections(&handle, self.config.reply_timeout).await? {
                if !known.contains(&name) && self.targets.include(database, &name) {
                    let record = SnapshotRecord::new(database, Some(&name), self.progress.epoch);
                    self.progress.save(&record).await?;
                    records.push(record);
                }
            }
            // Collections of later on have all their documents in the stream.
            whole.ranges.clear();
            self.progress.save(&whole).await?;
        }
        records.retain(|record| {
            let collection = record.collection.as_deref();
            let is_wanted = |name| self.targets.include(&record.database, name);
            !record.is_done() && collection.is_some_and(is_wanted)
        });
        Ok(records)
    }
}

/// What the snapshots that are being taken share.
struct Taking<'a> {
    task: &'a SnapshotTask,
    readers: Semaphore,
    pacer: Pacer,
    documents: Counter,
}

impl<'a> Taking<'a> {
    fn new(task: &'a SnapshotTask) -> Self {
        let runtime = task.progress.runtime.to_string();
        Self {
            task,
            readers: Semaphore::new(task.config.snapshot_readers),
            pacer: Pacer::new(NonZeroU32::new(task.config.snapshot_rate)),
            documents: metrics::counter!("changestream_snapshot_documents_total", "runtime" => runtime),
        }
    }

    /// Takes the snapshot of `record`, or the rest of it.
    async fn durably(&self, mut record: SnapshotRecord) -> Result<(), Error> {
        record.epoch = self.task.progress.epoch;
        let collection = record.collection.clone().unwrap_or_default();
        let reader = self.reader(
            &record.database,
            &collection,
            &record.id,
            RawDocumentBuf::new(),
        );
        if record.is_new() {
            record.split(self.bounds(&reader).await?);
            self.task.progress.save(&record).await?;
            crate::crash_point!("snapshot.begun");
        }
        let record = Mutex::new(record);
        self.all(&reader, &record, true).await.map(drop)
    }

    /// Takes a snapshot that was asked for. That it cannot be taken is told to whoever asked.
    async fn asked_for(&self, request: Request) -> Result<(), Error> {
        let Request {
            collection,
            filter,
            mut done,
        } = request;
        let database = &self.task.database;
        let taking = async {
            if !self.task.targets.include(database, &collection) {
                return Err(Error::configuration(format!(
                    "no handler receives snapshots of `{database}.{collection}`; one that receives inserts does, and \
                     one whose operations name `snapshot`"
                )));
            }
            let mut record =
                SnapshotRecord::new(database, Some(&collection), self.task.progress.epoch);
            let filter = RawDocumentBuf::try_from(&filter)
                .map_err(|error| Error::configuration("the filter is no query").caused_by(error))?;
            let is_of_all = filter.is_empty();
            let reader = self.reader(database, &collection, &record.id, filter);
            if is_of_all {
                record.split(self.bounds(&reader).await?);
            }
            self.all(&reader, &Mutex::new(record), false).await
        };
        tokio::select! {
            result = taking => drop(done.send(result)),
            () = done.closed() => {}
        }
        Ok(())
    }

    /// Takes all of `record`'s ranges; how many documents there were.
    async fn all(
        &self,
        reader: &Reader,
        record: &Mutex<SnapshotRecord>,
        is_durable: bool,
    ) -> Result<u64, Error> {
        let namespace = reader.scan.namespace();
        let ranges = record.lock().await.ranges.len();
        tracing::info!(%namespace, ranges, "taking a snapshot");
        let ranges = (0..ranges).map(|range| self.range(reader, record, range, is_durable));
        let documents = try_join_all(ranges).await?.into_iter().sum();
        tracing::info!(%namespace, documents, "the snapshot is taken");
        Ok(documents)
    }

    async fn range(
        &self,
        reader: &Reader,
        record: &Mutex<SnapshotRecord>,
        place: usize,
        is_durable: bool,
    ) -> Result<u64, Error> {
        let _turn = self.readers.acquire().await;
        let mut range = record.lock().await.ranges[place].clone();
        let mut documents = 0;
        while !range.done {
            let step = reader.advance(&range).await?;
            crate::crash_point!("snapshot.chunk_handled");
            documents += step.documents as u64;
            self.documents.increment(step.documents as u64);
            range.advance(step.last, step.is_last);
            // One save at a time: of two, the older one could be stored last.
            let mut record = record.lock().await;
            record.ranges[place] = range.clone();
            if is_durable {
                self.task.progress.save(&record).await?;
                crate::crash_point!("snapshot.chunk_saved");
            }
            drop(record);
            self.pacer.pass(step.documents).await;
        }
        Ok(documents)
    }

    fn reader(&self, database: &str, collection: &str, id: &str, filter: RawDocumentBuf) -> Reader {
        let SnapshotTask { client, config, .. } = self.task;
        let patience = config.reply_timeout;
        Reader {
            scan: Scan::new(
                client.clone(),
                database,
                collection,
                filter,
                self.task.projection.clone(),
                patience,
            ),
            id: id.to_owned(),
            windows: Arc::clone(&self.task.windows),
            chunks: self.task.chunks.clone(),
            limit: self.pacer.chunk(config.snapshot_chunk),
        }
    }

    fn bounds(&self, reader: &Reader) -> impl Future<Output = Result<Vec<RawDocumentBuf>, Error>> {
        let config = self.task.config;
        reader
            .scan
            .bounds(config.snapshot_readers, config.snapshot_chunk)
    }
}

/// The next request; never, when nobody is left who could make one.
async fn next(requests: &mut mpsc::Receiver<Request>) -> Request {
    match requests.recv().await {
        Some(request) => request,
        None => pending().await,
    }
}
