//! G2: lost history moves the stream only as its policy says, and what is given up is written down first.

use std::{sync::Arc, time::Duration};

use changestream::{
    GapKind, MemoryCheckpoints, MongoCheckpoints, MongoSnapshots, OnLostHistory, RuntimeBuilder,
    prelude::*,
};
use changestream_testkit::MongoServer;
use mongodb::bson::{Document, doc};
use tokio::sync::Semaphore;

use crate::support::{
    BoxError, Event, RUNTIME, Scene, Seen, Started, TestResult, eventually,
    failpoint::{Failure, fail},
    gated,
    oplog::{forgetful_scene, roll_over},
    recorder,
    store::{Faults, FaultyCheckpoints, FaultySnapshots},
};

fn start_now<S>(scene: &Scene<S>, seen: &Seen) -> RuntimeBuilder<Seen> {
    let builder = scene.runtime(seen).handlers([recorder(&["orders"])]);
    builder.on_lost_history(OnLostHistory::StartNow)
}

async fn gaps<S>(scene: &Scene<S>) -> Vec<Document> {
    use futures::TryStreamExt;
    let gaps = scene.collection(MongoCheckpoints::GAPS);
    let gaps = gaps.find(doc! {}).await.expect("gaps");
    gaps.try_collect().await.expect("gaps")
}

#[tokio::test]
async fn history_lost_under_way_becomes_a_gap_and_the_stream_goes_on() -> TestResult {
    let scene = Scene::own().await;
    let seen = Seen::default();
    let checkpoints = MemoryCheckpoints::default();
    let runtime = start_now(&scene, &seen).checkpoint_store(checkpoints.clone());
    let runtime = Started::new(runtime);
    scene.insert([1]).await?;
    seen.all([1]).await;
    let lost = Failure::code(286);
    fail(&scene.client, &["getMore"], doc! { "times": 1 }, lost).await?;
    let gap = eventually("a gap is recorded", async || checkpoints.gaps().pop()).await;
    assert_eq!(gap.kind, GapKind::LostHistory);
    assert_eq!(gap.runtime, RUNTIME);
    assert!(gap.from.is_some() && gap.to.is_some(), "{gap:?}");
    assert!(gap.from_time <= gap.to_time, "{gap:?}");
    let mut ids = 2..;
    eventually("the stream goes on", async || {
        scene.insert(ids.next()).await.expect("written");
        (seen.events().len() > 1).then_some(())
    })
    .await;
    runtime.stop().await?;
    assert_eq!(checkpoints.gaps().len(), 1);
    Ok(())
}

/// A runtime that has handled order 1, and whose place the oplog has then forgotten.
async fn lost(seen: &Seen) -> Result<Scene<MongoServer>, BoxError> {
    let scene = forgetful_scene().await;
    let runtime = Started::new(start_now(&scene, seen));
    scene.insert([1]).await?;
    seen.all([1]).await;
    runtime.stop().await?;
    scene.insert([2]).await?;
    roll_over(&scene).await;
    Ok(scene)
}

#[tokio::test]
async fn really_lost_history_is_written_down_before_the_stream_moves() -> TestResult {
    let seen = Seen::default();
    let scene = lost(&seen).await?;
    let stored = scene.checkpoint().await.expect("saved at shutdown");

    let faults = Faults::down();
    let store = FaultyCheckpoints {
        inner: MongoCheckpoints::new(&scene.database),
        faults: faults.clone(),
    };
    let runtime = Started::new(start_now(&scene, &seen).checkpoint_store(store));
    eventually("the gap cannot be recorded", async || {
        (faults.failures() > 2).then_some(())
    })
    .await;
    scene.insert([3]).await?;
    assert!(gaps(&scene).await.is_empty());
    assert_eq!(seen.ids(), [1]);
    faults.heal();
    let recorded = async || gaps(&scene).await.pop();
    let gap = eventually("the gap is recorded", recorded).await;
    assert_eq!(gap.get_str("kind")?, "lostHistory");
    assert_eq!(gap.get_str("runtime")?, RUNTIME);
    let from = mongodb::bson::serialize_to_document(stored.token().expect("a token"))?;
    assert_eq!(gap.get_document("from")?, &from);
    assert!(gap.get_timestamp("fromTime")? < gap.get_timestamp("toTime")?);

    let mut ids = 4..;
    eventually("the stream goes on", async || {
        scene.insert(ids.next()).await.expect("written");
        (seen.events().len() > 1).then_some(())
    })
    .await;
    runtime.stop().await?;
    assert!(!seen.ids().contains(&2), "{:?}", seen.ids());
    assert_eq!(gaps(&scene).await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_crash_between_gap_and_move_finds_the_same_gap_again() -> TestResult {
    let seen = Seen::default();
    let scene = lost(&seen).await?;
    let faults = Faults::losing_replies();
    let store = FaultyCheckpoints {
        inner: MongoCheckpoints::new(&scene.database),
        faults: faults.clone(),
    };
    let runtime = Started::new(start_now(&scene, &seen).checkpoint_store(store));
    let recorded = async || gaps(&scene).await.pop();
    let first = eventually("the gap is recorded", recorded).await;
    runtime.crash().await;

    scene.insert([3]).await?;
    let runtime = Started::new(start_now(&scene, &seen));
    let mut ids = 4..;
    eventually("the stream goes on", async || {
        scene.insert(ids.next()).await.expect("written");
        (seen.events().len() > 1).then_some(())
    })
    .await;
    runtime.stop().await?;
    let gaps = gaps(&scene).await;
    let [gap] = gaps.as_slice() else {
        panic!("{gaps:?}")
    };
    assert_eq!(gap.get_str("_id")?, first.get_str("_id")?);
    assert!(gap.get_timestamp("toTime")? > first.get_timestamp("toTime")?);
    Ok(())
}

fn taking_snapshots<S>(scene: &Scene<S>, seen: &Seen) -> RuntimeBuilder<Seen> {
    let builder = scene.runtime(seen).snapshot(Snapshot::Initial);
    builder.on_lost_history(OnLostHistory::Snapshot)
}

fn rows(events: &[Event]) -> Vec<(i64, i64)> {
    let rows = events
        .iter()
        .filter(|event| event.operation == Operation::Snapshot);
    let mut rows: Vec<_> = rows.filter_map(|row| Some((row.id?, row.n?))).collect();
    rows.sort_unstable();
    rows
}

/// A runtime that takes snapshots and has handled 300 orders. While it was away, order 0 was deleted, order 1 changed and
/// order 1000 inserted, and the oplog has forgotten all of it.
async fn lost_to_a_snapshot() -> Result<Scene<MongoServer>, BoxError> {
    let scene = forgetful_scene().await;
    let seen = Seen::default();
    let runtime = taking_snapshots(&scene, &seen).handlers([recorder(&["orders"])]);
    let runtime = Started::new(runtime);
    scene.insert(0..300).await?;
    seen.all(0..300).await;
    runtime.stop().await?;

    let orders = scene.collection("orders");
    orders.delete_one(doc! { "_id": 0_i64 }).await?;
    let change = doc! { "$set": { "n": 7_000_i64 } };
    orders.update_one(doc! { "_id": 1_i64 }, change).await?;
    scene.insert([1_000]).await?;
    roll_over(&scene).await;
    Ok(scene)
}

/// What there is in `orders` by then.
fn left() -> Vec<(i64, i64)> {
    let mut left: Vec<_> = (2..300).map(|id| (id, id)).collect();
    left.extend([(1, 7_000), (1_000, 1_000)]);
    left.sort_unstable();
    left
}

#[tokio::test]
async fn what_was_lost_comes_as_documents_and_then_the_changes() -> TestResult {
    let scene = lost_to_a_snapshot().await?;
    let seen = Seen::default();
    let start = || {
        let runtime = taking_snapshots(&scene, &seen).handlers([recorder(&["orders"])]);
        Started::new(runtime)
    };
    let runtime = start();
    seen.count(300).await;
    assert_eq!(rows(&seen.events()), left());
    let recorded = gaps(&scene).await;
    let [gap] = recorded.as_slice() else {
        panic!("{recorded:?}")
    };
    assert_eq!(gap.get_str("kind")?, "lostHistory");
    assert!(gap.get_timestamp("fromTime")? < gap.get_timestamp("toTime")?);
    scene.insert([1_001]).await?;
    seen.all([1_001]).await;
    runtime.stop().await?;

    let runtime = start();
    scene.insert([1_002]).await?;
    seen.all([1_002]).await;
    runtime.stop().await?;
    assert_eq!(seen.events().len(), 302, "once, and no more");
    assert_eq!(gaps(&scene).await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn history_lost_under_way_begins_a_new_tenure_with_a_snapshot() -> TestResult {
    let scene = forgetful_scene().await;
    let seen = Seen::default();
    let gate = Arc::new(Semaphore::new(0));
    let builder = taking_snapshots(&scene, &seen)
        .batch_size(1)
        .in_flight_events(1);
    let runtime = Started::new(builder.handlers([gated(&gate)]));
    eventually("it watches", async || scene.checkpoint().await).await;
    let epoch = scene.checkpoint().await.expect("a checkpoint").epoch;
    // One is in flight, one is at hand and one is read ahead: the cursor is behind the others.
    scene.insert(0..50).await?;
    roll_over(&scene).await;
    gate.add_permits(1_000);
    let events = seen.all(0..50).await;
    assert!(!rows(&events).is_empty(), "{events:?}");
    assert_eq!(gaps(&scene).await.len(), 1);
    scene.insert([50]).await?;
    let events = seen.all([50]).await;
    let last = events.last().expect("an event");
    assert_eq!(last.operation, Operation::Insert);
    runtime.stop().await?;
    let stored = scene.checkpoint().await.expect("a checkpoint");
    assert!(stored.epoch > epoch, "{} after {epoch}", stored.epoch);
    Ok(())
}

#[tokio::test]
async fn a_crash_between_gap_and_checkpoint_takes_the_snapshot_all_the_same() -> TestResult {
    let scene = lost_to_a_snapshot().await?;
    let seen = Seen::default();
    let start = |checkpoints: Faults, snapshots: Faults| {
        let checkpoints = FaultyCheckpoints {
            inner: MongoCheckpoints::new(&scene.database),
            faults: checkpoints,
        };
        let snapshots = FaultySnapshots {
            inner: MongoSnapshots::new(&scene.database),
            faults: snapshots,
        };
        let builder = taking_snapshots(&scene, &seen).checkpoint_store(checkpoints);
        let builder = builder.snapshot_store(snapshots);
        Started::new(builder.handlers([recorder(&["orders"])]))
    };
    let before = scene.checkpoint().await.expect("saved at shutdown");
    for (checkpoints, snapshots) in [
        (Faults::losing_replies(), Faults::default()),
        (Faults::default(), Faults::down()),
        (Faults::of_saves(), Faults::default()),
    ] {
        let runtime = start(checkpoints.clone(), snapshots.clone());
        eventually("it cannot go on", async || {
            (checkpoints.failures() + snapshots.failures() > 1).then_some(())
        })
        .await;
        runtime.crash().await;
        assert_eq!(gaps(&scene).await.len(), 1);
        let stored = scene.checkpoint().await.expect("a checkpoint");
        assert_eq!(stored.position, before.position);
        assert!(seen.events().is_empty(), "{:?}", seen.events());
    }
    let runtime = start(Faults::default(), Faults::default());
    seen.count(300).await;
    assert_eq!(rows(&seen.events()), left());
    scene.insert([1_001]).await?;
    seen.all([1_001]).await;
    runtime.stop().await?;
    assert_eq!(gaps(&scene).await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_crash_in_the_middle_of_the_snapshot_goes_on_with_it() -> TestResult {
    let scene = lost_to_a_snapshot().await?;
    let seen = Seen::default();
    let start = |permits| {
        let gate = Arc::new(Semaphore::new(permits));
        let builder = taking_snapshots(&scene, &seen)
            .snapshot_readers(1)
            .checkpoint_interval(Duration::from_secs(3600));
        Started::new(builder.snapshot_chunk(20).handlers([gated(&gate)]))
    };
    let runtime = start(110);
    // One more has begun.
    seen.count(111).await;
    runtime.crash().await;

    let changes = doc! { "$set": { "n": 8_000_i64 } };
    let orders = scene.collection("orders");
    orders.update_one(doc! { "_id": 1_i64 }, changes).await?;
    let runtime = start(Semaphore::MAX_PERMITS);
    seen.all((1..300).chain([1_000])).await;
    let newest = |events: &[Event]| events.iter().rfind(|event| event.id == Some(1))?.n;
    seen.until(|events| newest(events) == Some(8_000)).await;
    runtime.stop().await?;
    let again = seen.events().len() - 300;
    assert!(again <= 20 + 2, "{again} again, so it began anew");
    assert_eq!(gaps(&scene).await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_snapshot_that_nobody_could_take_is_refused() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let updates = recorder(&["orders"]).operations([Operation::Update]);
    let builder = || taking_snapshots(&scene, &seen).handlers([recorder(&["orders"])]);
    let refused = [
        (
            builder().snapshot(Snapshot::Never),
            ".snapshot(Snapshot::Initial)",
        ),
        (
            builder().snapshot(Snapshot::Never).partitions(2),
            "have 1 partition",
        ),
        (
            taking_snapshots(&scene, &seen).handlers([updates]),
            "receives inserts",
        ),
    ];
    for (builder, mend) in refused {
        let error = builder.build().expect_err("no snapshot could be taken");
        assert!(error.is_configuration());
        let message = error.to_string();
        assert!(
            message.contains("OnLostHistory::Snapshot") && message.contains(mend),
            "{message}"
        );
    }
    assert!(builder().build().is_ok());
    Ok(())
}
