//! Handlers of batches: as many events as there are, one batch after the other, and each event done, retried or
//! dead-lettered by itself.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use changestream::{
    DeadLetterFilter, DeadLetterStore, MemoryCheckpoints, MemoryProcessed, MongoDeadLetters,
    Replay, ReplayOutcome, StartAt,
    prelude::*,
    testing::{TestRuntime, change},
};
use mongodb::bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};

use crate::support::{Event, PATIENCE, RUNTIME, Scene, Seen, Started, TestResult, eventually};

const FOREVER: Duration = Duration::from_secs(3600);

/// A batch as the handler was given it.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    attempt: u32,
    ids: Vec<i64>,
}

/// The batches so far, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Call>>>);

impl Log {
    fn calls(&self) -> Vec<Call> {
        self.0.lock().expect("no panic").clone()
    }

    async fn count(&self, count: usize) -> Vec<Call> {
        let enough = async || Some(self.calls()).filter(|calls| calls.len() >= count);
        eventually("the batches are there", enough).await
    }

    fn note(&self, batch: &[Event]) {
        let ids = batch.iter().filter_map(|event| event.id).collect();
        let attempt = batch[0].attempt;
        self.0.lock().expect("no panic").push(Call { attempt, ids });
    }
}

fn call(attempt: u32, ids: impl IntoIterator<Item = i64>) -> Call {
    let ids = ids.into_iter().collect();
    Call { attempt, ids }
}

/// A handler of orders in batches that notes each, fails on the events on which `fail` says so, and is done with the
/// others.
fn orders(
    max: usize,
    within: Duration,
    log: &Log,
    fail: impl Fn(&Event) -> Option<HandlerError> + Clone + Send + Sync + 'static,
) -> HandlerSpec<Seen> {
    let log = log.clone();
    let handle =
        move |State(seen): State<Seen>, batch: Vec<RawChange>, Attempt(attempt): Attempt| {
            let events = batch.iter().map(|change| Event::of(change, attempt));
            let events: Vec<_> = events.collect();
            log.note(&events);
            let mut failed = Vec::new();
            for (place, event) in events.into_iter().enumerate() {
                match fail(&event) {
                    Some(error) => failed.push((place, error)),
                    None => seen.push(event),
                }
            }
            std::future::ready(match failed.is_empty() {
                true => Ok(()),
                false => Err(HandlerError::partial(failed)),
            })
        };
    HandlerSpec::batch("orders", max, within, handle).collections(["orders"])
}

async fn in_flight(runtime: &Started, count: usize) {
    let reached = async || (runtime.health.in_flight() == count).then_some(());
    eventually(&format!("{count} events are in flight"), reached).await;
}

fn integer(number: &Bson) -> Option<i64> {
    number.as_i64().or_else(|| number.as_i32().map(i64::from))
}

async fn letters<S>(scene: &Scene<S>, count: usize) -> Vec<Document> {
    eventually("the dead letters are written", async || {
        Some(scene.dead_letters().await).filter(|letters| letters.len() == count)
    })
    .await
}

#[tokio::test]
async fn a_batch_goes_when_it_is_full_and_a_shutdown_waits_for_no_more() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    scene.insert(1..8).await?;
    let spec = orders(3, FOREVER, &log, |_| None);
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]));
    log.count(2).await;
    in_flight(&runtime, 1).await;
    assert_eq!(log.calls(), [call(1, 1..4), call(1, 4..7)]);
    runtime.stop().await?;
    assert_eq!(log.calls()[2..], [call(1, [7])]);

    let spec = orders(3, FOREVER, &log, |_| None);
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]));
    scene.insert([8, 9, 10]).await?;
    log.count(4).await;
    runtime.stop().await?;
    assert_eq!(log.calls()[3..], [call(1, 8..11)], "the others were saved");
    Ok(())
}

#[tokio::test]
async fn a_batch_that_is_not_full_goes_when_its_time_is_over() -> TestResult {
    const WITHIN: Duration = Duration::from_millis(300);
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    let spec = orders(500, WITHIN, &log, |_| None);
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]));
    eventually("it watches", async || scene.checkpoint().await).await;
    let began = Instant::now();
    scene.insert(1..6).await?;
    log.count(1).await;
    assert!(began.elapsed() >= WITHIN);
    seen.all(1..6).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2, 3, 4, 5]);
    Ok(())
}

#[tokio::test]
async fn what_failed_of_a_batch_is_retried_and_the_rest_is_done() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    scene.insert(1..7).await?;
    let spec = orders(5, FOREVER, &log, |event| {
        let fails = event.attempt == 1 && [Some(2), Some(4)].contains(&event.id);
        fails.then(|| HandlerError::retry("not yet"))
    });
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]));
    log.count(2).await;
    in_flight(&runtime, 1).await;
    runtime.stop().await?;
    let calls = [call(1, 1..6), call(2, [2, 4]), call(1, [6])];
    assert_eq!(log.calls(), calls, "retried before the next batch");
    assert_eq!(seen.ids(), [1, 3, 5, 2, 4, 6]);
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn items_become_dead_letters_one_by_one_and_are_replayed_into_the_handler() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    scene.insert(1..5).await?;
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let spec = orders(4, FOREVER, &log, move |event| match event.id {
        _ if is_mended.load(Ordering::SeqCst) => None,
        Some(2) => Some(HandlerError::reject("never")),
        Some(3) => Some(HandlerError::retry("not yet")),
        _ => None,
    });
    let runtime = Started::new(scene.runtime(&seen).handlers([spec.retries(1)]));
    let mut found = letters(&scene, 2).await;
    found.sort_by_key(|letter| letter.get("attempts").and_then(integer));
    assert_eq!(log.calls(), [call(1, 1..5), call(2, [3])]);
    for (letter, (id, error, attempts)) in found.iter().zip([(2, "never", 1), (3, "not yet", 2)]) {
        let change = letter.get_document("change")?;
        assert_eq!(
            change.get_document("documentKey")?,
            &doc! { "_id": id as i64 }
        );
        assert_eq!(letter.get_array("error")?[0].as_str(), Some(error));
        assert_eq!(letter.get("attempts").and_then(integer), Some(attempts));
        assert_eq!(letter.get_str("handler")?, "orders");
    }
    assert_ne!(found[0].get_str("eventId")?, found[1].get_str("eventId")?);

    mended.store(true, Ordering::SeqCst);
    let store = Arc::new(MongoDeadLetters::new(&scene.database));
    let all = DeadLetterFilter::default().runtime(RUNTIME);
    let listed = store.list(&all, None, 100).await?;
    let mut replay = Replay::request(store.clone(), listed, Some("the test")).await?;
    while let Some((_, outcome)) = replay.next(PATIENCE).await? {
        assert_eq!(outcome, ReplayOutcome::Replayed);
    }
    runtime.stop().await?;
    assert_eq!(log.calls()[2..], [call(1, [2]), call(1, [3])]);
    assert_eq!(seen.ids(), [1, 4, 2, 3]);
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    n: i64,
}

#[tokio::test]
async fn an_item_that_does_not_decode_is_rejected_alone() -> TestResult {
    let scene = Scene::new().await;
    let (seen, numbers) = (Seen::default(), Arc::new(Mutex::new(Vec::new())));
    scene.insert([1]).await?;
    let wrong = doc! { "_id": 2_i64, "n": "two" };
    scene.collection("orders").insert_one(wrong).await?;
    scene.insert([3, 4]).await?;
    let noted = Arc::clone(&numbers);
    let handle = move |orders: Vec<FullDocument<Order>>, Attempt(attempt): Attempt| {
        let orders = orders.iter().map(|FullDocument(order)| order.n);
        let mut noted = noted.lock().expect("no panic");
        noted.push((attempt, orders.collect::<Vec<_>>()));
        // Nothing of it counts for the one that was rejected.
        let failed = (attempt == 1).then(|| (1, HandlerError::retry("the third, by its place")));
        std::future::ready(match failed {
            Some(failed) => Err(HandlerError::partial([failed])),
            None => Ok(()),
        })
    };
    let spec = HandlerSpec::batch("orders", 4, FOREVER, handle).collections(["orders"]);
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]));
    let found = letters(&scene, 1).await;
    runtime.stop().await?;
    assert_eq!(
        *numbers.lock().expect("no panic"),
        [(1, vec![1, 3, 4]), (2, vec![3])]
    );
    let change = found[0].get_document("change")?;
    assert_eq!(change.get_document("documentKey")?, &doc! { "_id": 2_i64 });
    assert_eq!(found[0].get_str("kind")?, "rejection");
    assert_eq!(scene.dead_letters().await.len(), 1);
    Ok(())
}

/// A handler of which each first attempt fails as a whole, or each attempt where it never succeeds.
fn failing(how: &'static str, log: &Log, attempts: u32) -> HandlerSpec<Seen> {
    let log = log.clone();
    let handle =
        move |batch: Vec<RawChange>, State(seen): State<Seen>, Attempt(attempt): Attempt| {
            let events = batch.iter().map(|change| Event::of(change, attempt));
            let events: Vec<_> = events.collect();
            log.note(&events);
            async move {
                match how {
                    _ if attempt > attempts => {}
                    "failed" => return Err(HandlerError::retry("all of them")),
                    "panic" => panic!("all of them"),
                    "timeout" => std::future::pending().await,
                    _ => return Err(HandlerError::partial([(9, HandlerError::reject("which?"))])),
                }
                events.into_iter().for_each(|event| seen.push(event));
                Ok(())
            }
        };
    HandlerSpec::batch("orders", 3, FOREVER, handle)
        .collections(["orders"])
        .timeout(Duration::from_millis(100))
        .retries(1)
}

#[tokio::test]
async fn a_failure_of_the_whole_counts_for_every_item() -> TestResult {
    for (how, kind) in [
        ("failed", "failed"),
        ("panic", "panic"),
        ("timeout", "timeout"),
        ("place", "failed"),
    ] {
        let scene = Scene::new().await;
        let (seen, log) = (Seen::default(), Log::default());
        scene.insert(1..4).await?;
        let runtime = Started::new(scene.runtime(&seen).handlers([failing(how, &log, 1)]));
        seen.all(1..4).await;
        runtime.stop().await?;
        assert_eq!(log.calls(), [call(1, 1..4), call(2, 1..4)], "{how}");
        assert!(scene.dead_letters().await.is_empty(), "{how}");

        scene.insert(4..7).await?;
        let runtime = Started::new(scene.runtime(&seen).handlers([failing(how, &log, 9)]));
        let found = letters(&scene, 3).await;
        runtime.stop().await?;
        assert_eq!(log.calls()[2..], [call(1, 4..7), call(2, 4..7)], "{how}");
        let ids = found
            .iter()
            .map(|letter| letter.get_str("eventId").expect("an id"));
        assert_eq!(ids.collect::<std::collections::HashSet<_>>().len(), 3);
        for letter in found {
            assert_eq!(letter.get_str("kind")?, kind, "{how}");
            let error = letter.get_array("error")?[0].as_str().unwrap_or_default();
            assert_eq!(error.contains("item 9"), how == "place", "{error}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn all_batches_and_retries_are_in_the_order_of_the_stream() -> TestResult {
    const DOCUMENTS: i64 = 10;
    const UPDATES: i64 = 20;
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    // What comes after one that failed fails with it, as is right where order counts.
    let has_failed = Arc::new(Mutex::new((0, false)));
    let spec = orders(16, Duration::from_millis(20), &log, {
        let log = log.clone();
        move |event| {
            let mut has_failed = has_failed.lock().expect("no panic");
            let calls = log.calls().len();
            if has_failed.0 != calls {
                *has_failed = (calls, false);
            }
            has_failed.1 |= event.attempt < 10 && fastrand::u8(..12) == 0;
            has_failed.1.then(|| HandlerError::retry("by chance"))
        }
    });
    let spec = spec.retries(10).backoff(Duration::from_millis(2));
    let builder = scene.runtime(&seen).concurrency(4).in_flight_events(64);
    let runtime = Started::new(builder.handlers([spec]));
    scene.insert(0..DOCUMENTS).await?;
    for n in 0..UPDATES {
        let update = doc! { "$set": { "n": 100 + n } };
        let orders = scene.collection("orders");
        orders.update_many(doc! {}, update).await?;
    }
    let total = (DOCUMENTS * (UPDATES + 1)) as usize;
    let events = seen.count(total).await;
    runtime.stop().await?;
    assert_eq!(seen.events().len(), total, "nothing comes twice");
    assert!(events.is_sorted_by_key(|event| event.n));
    assert!(log.calls().iter().any(|call| call.attempt > 1));
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn after_a_crash_the_unfinished_items_come_again() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    let second = Arc::new(Mutex::new(None));
    let start = |fails: bool| {
        let second = Arc::clone(&second);
        let spec = orders(5, FOREVER, &log, move |_| None);
        let handle = move |batch: Vec<RawChange>| {
            *second.lock().expect("no panic") = Some(batch[1].token());
            let not_yet = HandlerError::retry_after(FOREVER, "not yet");
            std::future::ready(Err::<(), _>(HandlerError::partial([(2, not_yet)])))
        };
        let failing = HandlerSpec::batch("orders", 5, FOREVER, handle).collections(["orders"]);
        let spec = if fails { failing } else { spec };
        Started::new(scene.runtime(&seen).handlers([spec]))
    };
    scene.insert(1..6).await?;
    let runtime = start(true);
    in_flight(&runtime, 1).await;
    eventually("what is done is saved", async || {
        let checkpoint = scene.checkpoint().await?;
        let second = second.lock().expect("no panic").clone();
        (checkpoint.token() == second.as_ref()).then_some(())
    })
    .await;
    runtime.crash().await;
    let runtime = start(false);
    in_flight(&runtime, 3).await;
    runtime.stop().await?;
    assert_eq!(log.calls(), [call(1, 3..6)]);
    Ok(())
}

#[tokio::test]
async fn bounds_smaller_than_a_batch_make_smaller_batches() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    scene.insert(1..7).await?;
    let spec = orders(500, FOREVER, &log, |_| None);
    let builder = scene.runtime(&seen).in_flight_bytes(1);
    let runtime = Started::new(builder.handlers([spec]));
    // Nothing says that the last one is the last.
    seen.all(1..6).await;
    in_flight(&runtime, 1).await;
    runtime.stop().await?;
    let alone: Vec<_> = (1..7).map(|id| call(1, [id])).collect();
    assert_eq!(log.calls(), alone);
    Ok(())
}

#[tokio::test]
async fn the_rows_of_a_snapshot_come_in_batches_too() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    scene.insert(0..300).await?;
    let spec = orders(100, Duration::from_millis(50), &log, |_| None);
    let builder = scene.runtime(&seen).start_at(StartAt::Now);
    let builder = builder.snapshot(Snapshot::Initial).snapshot_readers(1);
    let runtime = Started::new(builder.handlers([spec]));
    seen.all(0..300).await;
    scene.insert([300]).await?;
    let events = seen.all([300]).await;
    runtime.stop().await?;
    assert_eq!(events.len(), 301);
    let rows = events
        .iter()
        .filter(|event| event.operation == Operation::Snapshot);
    assert_eq!(rows.count(), 300);
    let largest = log.calls().iter().map(|call| call.ids.len()).max();
    assert_eq!(
        largest,
        Some(100),
        "as many rows are in flight as a batch takes"
    );
    Ok(())
}

#[tokio::test]
async fn items_that_were_processed_are_skipped_one_by_one() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log, store) = (Seen::default(), Log::default(), MemoryProcessed::default());
    scene.insert(1..5).await?;
    for (expected, retried) in [(call(1, 1..5), true), (call(1, [2]), false)] {
        let spec = orders(4, Duration::from_millis(200), &log, move |event| {
            let error = || HandlerError::reject("not this one");
            (retried && event.id == Some(2)).then(error)
        });
        let builder = scene.runtime(&seen).deduplicate(store.clone());
        let builder = builder.checkpoint_store(MemoryCheckpoints::default());
        let runtime = Started::new(builder.handlers([spec]));
        log.count(if retried { 1 } else { 2 }).await;
        runtime.stop().await?;
        assert_eq!(log.calls().last(), Some(&expected));
    }
    assert_eq!(seen.ids(), [1, 3, 4, 2]);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_is_refused_when_it_is_built() -> TestResult {
    let spec = |max, within| {
        let handle = async |_: Vec<RawChange>| Ok::<_, HandlerError>(());
        HandlerSpec::batch("orders", max, within, handle)
    };
    let fine = || spec(500, Duration::from_millis(200));
    let transactions = async |_: Vec<Transaction>| Ok::<_, HandlerError>(());
    let transactions = HandlerSpec::batch("orders", 500, FOREVER, transactions);
    for (spec, mend) in [
        (spec(0, FOREVER), "let `max` be 1 at least"),
        (spec(1, Duration::ZERO), "let `within` be 1 ms at least"),
        (
            spec(1_025, FOREVER),
            "lower its `max`, or raise `.in_flight_events(..)`",
        ),
        (fine().key("customer"), "remove `key`"),
        (fine().to(["out"]), "remove `to`"),
        (transactions, "take events one by one"),
    ] {
        let runtime = TestRuntime::builder().handler(spec).build();
        let error = runtime.expect_err(mend);
        assert!(error.is_configuration());
        let error = error.to_string();
        assert!(
            error.contains("`orders`") && error.contains(mend),
            "{error}"
        );
    }
    TestRuntime::builder().handler(fine()).build()?;
    Ok(())
}

/// What was indexed, batch by batch.
#[derive(Clone, Default)]
struct Index(Arc<Mutex<Vec<Vec<i64>>>>);

#[on_change(
    coll = "orders",
    op = "insert",
    batch(max = 3, within = "200ms"),
    retries = 1
)]
async fn index(
    State(index): State<Index>,
    orders: Vec<Change<Order>>,
    Attempt(attempt): Attempt,
) -> Result<(), HandlerError> {
    assert!(orders.iter().all(|order| order.attempt().0 == attempt));
    let numbers = orders.iter().filter_map(Change::full_document);
    let numbers: Vec<_> = numbers.map(|order| order.n).collect();
    let negative = numbers.iter().enumerate().filter(|(_, n)| **n < 0);
    let failed: Vec<_> = negative
        .map(|(place, _)| (place, HandlerError::retry("it is negative")))
        .collect();
    index.0.lock().expect("no panic").push(numbers);
    match failed.is_empty() {
        true => Ok(()),
        false => Err(HandlerError::partial(failed)),
    }
}

#[tokio::test(start_paused = true)]
async fn an_annotated_handler_is_tested_without_a_server() -> TestResult {
    let state = Index::default();
    let builder = TestRuntime::builder().state(state.clone());
    let mut runtime = builder.handlers(handlers![index]).build()?;
    let insert = |n: i64| change::insert("orders").id(n).full_document(&Order { n });
    let report = runtime.send_all([1, 2, 3, 4].map(insert)).await;
    assert_eq!(report.handled(), ["index", "index"]);
    let report = runtime.send(insert(5)).await;
    assert_eq!(report.handled(), ["index"]);
    let wrong = change::insert("orders").full_document(&doc! { "n": "six" });
    let report = runtime.send_all([insert(-1), wrong, insert(7)]).await;
    assert_eq!(report.dead_lettered(), ["index"]);
    let batches = state.0.lock().expect("no panic").clone();
    let expected: [&[i64]; 5] = [&[1, 2, 3], &[4], &[5], &[-1, 7], &[-1]];
    assert_eq!(batches, expected);
    let letters = runtime.dead_letters();
    let kinds: Vec<_> = letters.iter().map(|letter| letter.kind()).collect();
    assert_eq!(kinds, ["rejection", "failed"]);
    assert_eq!(letters[1].attempts(), 2);
    Ok(())
}
