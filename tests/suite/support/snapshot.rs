//! Snapshots: a collection that is there before, a runtime that takes it, and what came of it.

use changestream::{Operation, RuntimeBuilder, StartAt, prelude::*};
use mongodb::bson::{Bson, doc};

use super::{Event, Scene, Seen, TestResult, eventually};

/// A builder of a runtime that begins with what is there.
pub(crate) fn runtime<S>(scene: &Scene<S>, seen: &Seen) -> RuntimeBuilder<Seen> {
    let builder = scene.runtime(seen).start_at(StartAt::Now).concurrency(4);
    builder.snapshot(Snapshot::Initial)
}

/// Documents of these ids in `orders`.
pub(crate) async fn fill<S>(scene: &Scene<S>, ids: std::ops::Range<i64>) -> TestResult {
    let documents = ids.map(|id| doc! { "_id": id, "n": id });
    let orders = scene.collection("orders");
    orders.insert_many(documents.collect::<Vec<_>>()).await?;
    Ok(())
}

/// The documents of snapshots among the events.
pub(crate) fn rows(events: &[Event]) -> Vec<&Event> {
    let rows = events.iter();
    rows.filter(|event| event.operation == Operation::Snapshot)
        .collect()
}

/// Waits until the one snapshot is done.
pub(crate) async fn snapshot_is_done<S>(scene: &Scene<S>) {
    eventually("the snapshot is done", async || {
        let records = scene.collection("changestream.snapshots");
        let record = records.find_one(doc! {}).await.expect("read")?;
        let ranges = record.get_array("ranges").expect("ranges");
        let is_done = |range: &Bson| {
            range
                .as_document()
                .and_then(|range| range.get_bool("done").ok())
        };
        (ranges.iter().all(|range| is_done(range) == Some(true))).then_some(())
    })
    .await;
}
