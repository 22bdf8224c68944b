//! G12: a snapshot goes on where it stopped, keeps to its rate, outlives the oplog, and can be asked for.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use changestream::{
    MemorySnapshots, MongoCheckpoints, MongoSnapshots, Operation, Saved, Snapshot, SnapshotRecord,
    SnapshotStore, StoreError, prelude::*,
};
use mongodb::bson::doc;
use tokio::{
    sync::{Semaphore, oneshot},
    time::sleep,
};

use crate::support::{
    Event, Scene, Seen, Started, TestResult, eventually,
    oplog::{forgetful_scene, roll_over},
    recorder,
    snapshot::{fill, rows, runtime, snapshot_is_done},
    within,
};

/// A handler that takes a millisecond for each event.
fn slow() -> HandlerSpec<Seen> {
    let handle = |State(seen): State<Seen>, change: RawChange| async move {
        sleep(Duration::from_millis(1)).await;
        seen.push(Event::of(&change, 1));
        Ok::<_, HandlerError>(())
    };
    HandlerSpec::new("slow", handle).collections(["orders"])
}

#[tokio::test]
async fn after_crashes_it_goes_on_where_it_stopped() -> TestResult {
    const DOCUMENTS: i64 = 3_000;
    const CRASHES: usize = 4;
    const CHUNK: usize = 50;
    const READERS: usize = 2;
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..DOCUMENTS).await?;
    let start = || {
        let builder = runtime(&scene, &seen).snapshot_chunk(CHUNK);
        Started::new(builder.snapshot_readers(READERS).handlers([slow()]))
    };
    for crash in 1..=CRASHES {
        let runtime = start();
        let enough = crash * 400;
        seen.until(|events| rows(events).len() >= enough).await;
        runtime.crash().await;
        // What changes while nobody watches comes as events.
        let change = doc! { "$set": { "n": -(crash as i64) } };
        let id = crash as i64;
        let orders = scene.collection("orders");
        orders.update_one(doc! { "_id": id }, change).await?;
        orders.delete_one(doc! { "_id": DOCUMENTS - id }).await?;
    }
    let runtime = start();
    let kept = DOCUMENTS - CRASHES as i64;
    seen.all(0..kept).await;
    scene.insert([DOCUMENTS]).await?;
    let events = seen.all([DOCUMENTS]).await;
    runtime.stop().await?;
    for crash in 1..=CRASHES as i64 {
        let last = events.iter().rfind(|event| event.id == Some(crash));
        assert_eq!(last.and_then(|event| event.n), Some(-crash));
        let gone = |event: &Event| event.id == Some(DOCUMENTS - crash);
        let last = events.iter().rfind(|event| gone(event));
        assert!(last.is_some_and(|event| event.operation == Operation::Delete));
    }
    let again = rows(&events).len() - kept as usize;
    assert!(again <= CRASHES * (CHUNK * READERS + 1), "{again} again");
    let mut ids = HashMap::new();
    for row in rows(&events) {
        let before = ids.insert(row.id, row.event_id);
        assert!(before.is_none_or(|before| before == row.event_id));
    }
    Ok(())
}

#[tokio::test]
async fn progress_does_not_pass_a_document_that_is_not_done() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..40).await?;
    let start = |held: Option<i64>| {
        let handle = move |State(seen): State<Seen>, change: RawChange| async move {
            let event = Event::of(&change, 1);
            if event.id == held {
                return Err(HandlerError::retry_after(
                    Duration::from_secs(3600),
                    "not yet",
                ));
            }
            seen.push(event);
            Ok(())
        };
        let handler = HandlerSpec::new("handler", handle).collections(["orders"]);
        let builder = runtime(&scene, &seen)
            .snapshot_readers(1)
            .snapshot_chunk(10);
        Started::new(builder.handlers([handler]))
    };
    let started = start(Some(13));
    seen.all((10..20).filter(|id| *id != 13)).await;
    // Whatever it might save or read further, it would by now.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(seen.ids().len(), 19, "the next chunk waits");
    started.crash().await;
    let started = start(None);
    seen.all(0..40).await;
    started.stop().await?;
    assert_eq!(seen.ids().len(), 19 + 30, "the first chunk was done");
    Ok(())
}

#[tokio::test]
async fn a_clean_shutdown_in_the_middle_loses_nothing() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..1_000).await?;
    let start = || Started::new(runtime(&scene, &seen).snapshot_chunk(40).handlers([slow()]));
    let started = start();
    seen.count(300).await;
    started.stop().await?;
    assert!(seen.ids().len() < 1_000);
    let started = start();
    seen.all(0..1_000).await;
    started.stop().await?;
    assert!(seen.ids().len() <= 1_000 + 4 * 40);
    Ok(())
}

#[tokio::test]
async fn it_is_taken_again_when_it_is_needed_and_only_then() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..10).await?;
    let start = |snapshot| {
        let builder = runtime(&scene, &seen).snapshot(snapshot);
        Started::new(builder.handlers([recorder(&["orders"])]))
    };
    let started = start(Snapshot::WhenNeeded);
    seen.count(10).await;
    started.stop().await?;

    let started = start(Snapshot::WhenNeeded);
    scene.insert([10]).await?;
    seen.count(11).await;
    started.stop().await?;

    let checkpoints = scene.collection(MongoCheckpoints::COLLECTION);
    checkpoints.delete_many(doc! {}).await?;
    let started = start(Snapshot::WhenNeeded);
    let events = seen.count(22).await;
    started.stop().await?;
    let ids: HashSet<_> = rows(&events).iter().map(|row| row.event_id).collect();
    assert_eq!(ids.len(), 21, "each snapshot is another one");

    checkpoints.delete_many(doc! {}).await?;
    let started = start(Snapshot::Initial);
    eventually("it watches", async || scene.checkpoint().await).await;
    scene.insert([11]).await?;
    seen.all([11]).await;
    started.stop().await?;
    assert_eq!(seen.ids().len(), 23);
    Ok(())
}

#[tokio::test]
async fn a_collection_that_is_watched_later_is_taken_then() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..10).await?;
    scene.insert_into("products", 100..110).await?;
    let start = |collections: &[&str]| {
        Started::new(runtime(&scene, &seen).handlers([recorder(collections)]))
    };
    let started = start(&["orders"]);
    seen.count(10).await;
    started.stop().await?;
    let started = start(&["orders", "products"]);
    seen.all(100..110).await;
    started.stop().await?;
    assert_eq!(seen.ids().len(), 20);

    // A handler of the whole database: what is new to it, and the runtime's own collections never.
    scene.insert_into("customers", 200..210).await?;
    let started = start(&[]);
    seen.all(200..210).await;
    scene.insert_into("returns", [300]).await?;
    seen.all([300]).await;
    started.stop().await?;
    let started = start(&[]);
    scene.insert([10]).await?;
    let events = seen.all([10]).await;
    started.stop().await?;
    let of = |id| events.iter().filter(|event| event.id == Some(id)).count();
    assert_eq!(
        (of(200), of(300)),
        (1, 1),
        "made later, it was in the stream"
    );
    assert!(events.iter().all(|event| event.id.is_some()));
    Ok(())
}

#[tokio::test]
async fn changes_go_first() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..50).await?;
    let gate = Arc::new(Semaphore::new(0));
    let running = Arc::new(AtomicUsize::new(0));
    let (gated, counted) = (Arc::clone(&gate), Arc::clone(&running));
    let handle = move |State(seen): State<Seen>, change: RawChange| {
        let (gate, running) = (Arc::clone(&gated), Arc::clone(&counted));
        async move {
            let event = Event::of(&change, 1);
            if event.operation == Operation::Snapshot {
                running.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await?.forget();
            }
            seen.push(event);
            Ok::<_, HandlerError>(())
        }
    };
    let handler = HandlerSpec::new("gated", handle).collections(["orders"]);
    let handler = handler.timeout(Duration::from_secs(3600));
    let builder = runtime(&scene, &seen).concurrency(2);
    let started = Started::new(builder.handlers([handler]));
    eventually("all lanes have rows", async || {
        (running.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    scene.insert([50]).await?;
    // The event is behind the rows by now.
    sleep(Duration::from_secs(1)).await;
    gate.add_permits(1);
    let events = seen.all([50]).await;
    assert_eq!(events.len(), 2, "the next lane that is free takes it");
    gate.add_permits(49);
    seen.all(0..50).await;
    started.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_rate_is_kept() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..50).await?;
    let rate = NonZeroU32::new(20).expect("a rate");
    let builder = runtime(&scene, &seen).snapshot_rate(rate);
    let started = Started::new(builder.handlers([recorder(&["orders"])]));
    seen.count(1).await;
    let begun = Instant::now();
    seen.all(0..50).await;
    started.stop().await?;
    let elapsed = begun.elapsed();
    assert!(elapsed > Duration::from_millis(1_500), "{elapsed:?}");
    Ok(())
}

#[tokio::test]
async fn one_that_takes_longer_than_the_oplog_goes_back_loses_nothing() -> TestResult {
    let scene = forgetful_scene().await;
    let seen = Seen::default();
    fill(&scene, 0..60).await?;
    let rate = NonZeroU32::new(10).expect("a rate");
    let builder = runtime(&scene, &seen)
        .snapshot_rate(rate)
        .snapshot_readers(1);
    let started = Started::new(builder.handlers([recorder(&["orders"])]));
    seen.count(1).await;
    roll_over(&scene).await;
    let orders = scene.collection("orders");
    for id in 0..60_i64 {
        let update = doc! { "$set": { "n": id + 1_000 } };
        orders.update_one(doc! { "_id": id }, update).await?;
    }
    let newest = |events: &[Event], id| {
        let last = events.iter().rfind(|event| event.id == Some(id));
        last.and_then(|event| event.n)
    };
    seen.until(|events| {
        let has_come = |id| {
            events
                .iter()
                .any(|event| event.id == Some(id) && event.operation == Operation::Snapshot)
        };
        (0..60).all(|id| has_come(id) && newest(events, id) == Some(id + 1_000))
    })
    .await;
    started.stop().await?;
    Ok(())
}

#[tokio::test]
async fn one_can_be_asked_for_with_a_filter() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..100).await?;
    let builder = runtime(&scene, &seen).snapshot(Snapshot::Never);
    let handlers = [recorder(&["orders"])];
    let runtime = builder.snapshot_chunk(7).handlers(handlers).build()?;
    let snapshots = runtime.snapshots();
    let (shutdown, asked) = oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run_until(async { drop(asked.await) }));

    let wanted = doc! { "n": { "$gte": 60, "$lt": 80 } };
    let taken = within("it is taken", snapshots.request("orders", wanted)).await?;
    assert_eq!(taken, 20);
    let ids: HashSet<_> = seen.ids().into_iter().collect();
    assert_eq!(ids, (60..80).collect());
    assert_eq!(rows(&seen.events()).len(), 20, "done when it resolves");

    let error = within("it is refused", snapshots.request("products", doc! {})).await;
    assert!(error.expect_err("no handler").is_configuration());
    let error = within(
        "it is refused",
        snapshots.request("orders", doc! { "$no": 1 }),
    )
    .await;
    let error = error.expect_err("no query");
    assert!(error.is_snapshot(), "{}", crate::support::chain(&error));

    let again = within("it is taken", snapshots.request("orders", doc! {})).await?;
    assert_eq!(again, 100);
    assert_eq!(seen.ids().len(), 120);
    shutdown.send(()).ok();
    within("it stops", running).await??;
    let error = snapshots.request("orders", doc! {}).await;
    assert!(error.expect_err("nobody runs").is_snapshot());
    Ok(())
}

#[tokio::test]
async fn whoever_has_been_replaced_cannot_save_progress() -> TestResult {
    async fn check(store: impl SnapshotStore) -> TestResult {
        let record = |epoch: i64, done: bool| -> SnapshotRecord {
            let range = doc! { "after": { "_id": null }, "done": done };
            let record = doc! {
                "database": "shop", "collection": "orders", "id": "7", "epoch": epoch, "ranges": [range],
            };
            mongodb::bson::deserialize_from_document(record).expect("a record")
        };
        assert!(store.load("test").await?.is_empty());
        assert_eq!(store.save("test", &record(2, false)).await?, Saved::Yes);
        assert_eq!(store.save("test", &record(2, true)).await?, Saved::Yes);
        assert_eq!(store.save("test", &record(1, false)).await?, Saved::Stale);
        assert_eq!(store.load("test").await?, [record(2, true)]);
        assert!(store.load("tes").await?.is_empty());
        Ok(())
    }
    let scene = Scene::new().await;
    check(MongoSnapshots::new(&scene.database)).await?;
    check(MemorySnapshots::default()).await
}

/// Notes how many saves were under way at a time.
#[derive(Clone, Debug)]
struct Counted {
    inner: MongoSnapshots,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl SnapshotStore for Counted {
    async fn load(&self, runtime: &str) -> Result<Vec<SnapshotRecord>, StoreError> {
        self.inner.load(runtime).await
    }

    async fn save(&self, runtime: &str, record: &SnapshotRecord) -> Result<Saved, StoreError> {
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        let saved = self.inner.save(runtime, record).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        saved
    }
}

#[tokio::test]
async fn of_two_saves_the_older_one_is_never_stored_last() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..400).await?;
    let store = Counted {
        inner: MongoSnapshots::new(&scene.database),
        under_way: Arc::default(),
        most: Arc::default(),
    };
    let builder = runtime(&scene, &seen).snapshot_chunk(5).snapshot_readers(4);
    let builder = builder.snapshot_store(store.clone());
    let runtime = Started::new(builder.handlers([recorder(&["orders"])]));
    seen.all(0..400).await;
    snapshot_is_done(&scene).await;
    runtime.stop().await?;
    assert_eq!(store.most.load(Ordering::SeqCst), 1);
    Ok(())
}
