//! The driver's own loop, as everyone writes it.

use std::{future::ready, hint::black_box};

use bson::{Timestamp, doc};
use futures::{Stream, StreamExt, TryStreamExt, channel::mpsc::channel, future::try_join_all};
use mongodb::{
    Client, Database,
    change_stream::{ChangeStream, event::ChangeStreamEvent},
    options::ClientOptions,
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};
use serde::de::DeserializeOwned;

use crate::{
    Figures, Result,
    backlog::{END, Item, collection},
    comparison::Job,
    measure::Meter,
};

/// What suits the driver best: without it, a reply has up to 16 MB.
pub(crate) const BATCH_SIZE: u32 = 5_000;

pub(crate) async fn typed(job: Job) -> Result<Figures> {
    drain(job, async |item: Item| {
        black_box(item.quantity);
    })
    .await
}

/// Drains with `ChangeStreamEvent<T>`, and gives each document to `work`.
pub(crate) async fn drain<T>(job: Job, mut work: impl AsyncFnMut(T)) -> Result<Figures>
where
    T: DeserializeOwned + Unpin + Send + Sync,
{
    let meter = Meter::start(&job.client).await?;
    let items = job.database.collection::<T>(&collection(0));
    let watch = items.watch().start_at_operation_time(job.start);
    let stream = watch.batch_size(BATCH_SIZE).await?;
    follow(job, meter, stream, &mut work).await
}

/// Counts the events of the driver's raw batches, and does nothing else with them.
pub(crate) async fn raw_batches(job: Job) -> Result<Figures> {
    let meter = Meter::start(&job.client).await?;
    let batches = open_raw_batches(&job).await?;
    count(batches, job.events).await?;
    meter.stop(job.events).await
}

/// The same with the next batch asked for while one is counted.
pub(crate) async fn raw_batches_ahead(job: Job) -> Result<Figures> {
    let meter = Meter::start(&job.client).await?;
    let batches = open_raw_batches(&job).await?;
    let (send, sent) = channel(0);
    let _read = tokio::spawn(batches.map(Ok).forward(send));
    count(sent, job.events).await?;
    meter.stop(job.events).await
}

async fn open_raw_batches(job: &Job) -> mongodb::error::Result<RawBatchCursor> {
    let items = job.database.collection::<Item>(&collection(0));
    let inserts = doc! { "$match": { "operationType": { "$in": ["insert", "invalidate"] } } };
    let stream = doc! { "$changeStream": { "startAtOperationTime": job.start } };
    let aggregate = items.aggregate([stream, inserts]).batch_size(BATCH_SIZE);
    aggregate.batch().await
}

async fn count(
    mut batches: impl Stream<Item = mongodb::error::Result<RawBatch>> + Unpin,
    expected: u64,
) -> Result<()> {
    let mut events = 0;
    while events < expected {
        let batch = batches.next().await.ok_or("the stream ended")??;
        events += batch.doc_slices()?.into_iter().count() as u64;
    }
    Ok(())
}

/// Drains the inserts of all collections of the database.
pub(crate) async fn typed_of_database(job: Job) -> Result<Figures> {
    let meter = Meter::start(&job.client).await?;
    let stream = watch_inserts(&job.database, Some(job.start)).await?;
    follow(job, meter, stream, &mut async |item: Item| {
        black_box(item.quantity);
    })
    .await
}

/// Opens a stream of the inserts into all collections, from `start` or from now.
pub(crate) async fn watch_inserts(
    database: &Database,
    start: Option<Timestamp>,
) -> mongodb::error::Result<ChangeStream<ChangeStreamEvent<Item>>> {
    let inserts = doc! { "$match": { "operationType": "insert", "ns.coll": { "$ne": END } } };
    let watch = database.watch().pipeline([inserts]).batch_size(BATCH_SIZE);
    let stream = match start {
        Some(start) => watch.start_at_operation_time(start).await?,
        None => watch.await?,
    };
    Ok(stream.with_type())
}

async fn follow<T>(
    job: Job,
    meter: Meter,
    mut stream: ChangeStream<ChangeStreamEvent<T>>,
    work: &mut impl AsyncFnMut(T),
) -> Result<Figures>
where
    T: DeserializeOwned + Unpin + Send + Sync,
{
    for _ in 0..job.events {
        let event = stream.next().await.ok_or("the stream ended")??;
        work(event.full_document.ok_or("an insert without document")?).await;
    }
    meter.stop(job.events).await
}

/// As many change streams as handlers, each of one collection, from the backlog's start.
pub(crate) async fn cursors(job: Job, cursors: usize, collections: usize) -> Result<Figures> {
    let meter = Meter::start(&job.client).await?;
    let streams = open_cursors(&job, cursors, collections, Some(job.start)).await?;
    read_cursors(streams, job.events / collections as u64).await?;
    meter.stop(job.events).await
}

/// Opens them where the backlog starts, or now.
pub(crate) async fn open_cursors(
    job: &Job,
    cursors: usize,
    collections: usize,
    start: Option<Timestamp>,
) -> Result<Vec<ChangeStream<ChangeStreamEvent<Item>>>> {
    let mut options = ClientOptions::parse(crate::server_uri()?).await?;
    // Each open stream has a connection.
    options.max_pool_size = Some(u32::try_from(cursors)? + 10);
    let database = Client::with_options(options)?.database(job.database.name());
    let open = (0..cursors).map(|n| {
        let items = database.collection::<Item>(&collection(n % collections));
        async move {
            let watch = items.watch().batch_size(BATCH_SIZE);
            match start {
                Some(start) => watch.start_at_operation_time(start).await,
                None => watch.await,
            }
        }
    });
    Ok(try_join_all(open).await?)
}

/// Reads so many events from each.
pub(crate) async fn read_cursors(
    streams: Vec<ChangeStream<ChangeStreamEvent<Item>>>,
    events: u64,
) -> Result<()> {
    let events = usize::try_from(events)?;
    let read = streams.into_iter().map(|stream| {
        stream.take(events).try_for_each(|event| {
            black_box(event.full_document.map(|item| item.quantity));
            ready(Ok(()))
        })
    });
    try_join_all(read).await?;
    Ok(())
}
