//! G8: a dead letter goes once more into what failed, and is removed only after that succeeded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use changestream::{
    DeadLetterFilter, DeadLetterStore, Delivery, HandlerError, MemoryDeadLetters, MongoDeadLetters,
    Replay, ReplayError, ReplayOutcome, SinkSpec,
    prelude::*,
    testing::{TestRuntime, change},
};
use tokio::sync::Semaphore;
use tower::service_fn;

use crate::support::{
    Event, PATIENCE, RUNTIME, Scene, Seen, Started, TestResult, eventually,
    store::{Faults, FaultyDeadLetters},
};

/// Whether what fails is mended. Clones share it.
#[derive(Clone, Default)]
struct Mended(Arc<AtomicBool>);

impl Mended {
    fn mend(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn result(&self, error: &'static str) -> Result<(), HandlerError> {
        match self.0.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(HandlerError::reject(error)),
        }
    }
}

/// Notes every order, and fails on it until it is mended; on order 13 always.
fn fragile(mended: &Mended) -> HandlerSpec<Seen> {
    let mended = mended.clone();
    let handle = move |State(seen): State<Seen>, change: RawChange, Attempt(attempt): Attempt| {
        let event = Event::of(&change, attempt);
        let result = match event.id {
            Some(13) if attempt == 2 => Err(HandlerError::reject("still broken")),
            Some(13) if mended.result("").is_ok() => Err(HandlerError::retry("broken")),
            _ => mended.result("not yet"),
        };
        seen.push(event);
        std::future::ready(result)
    };
    HandlerSpec::new("fragile", handle).collections(["orders"])
}

/// A sink that notes what it receives, and takes nothing until it is mended.
fn sink(seen: &Seen, mended: &Mended) -> SinkSpec {
    let (seen, mended) = (seen.clone(), mended.clone());
    SinkSpec::new(service_fn(move |delivery: Delivery| {
        seen.push(Event::of(delivery.change(), delivery.attempt().0));
        std::future::ready(mended.result("the sink is down"))
    }))
}

fn all() -> DeadLetterFilter {
    DeadLetterFilter::default().runtime(RUNTIME)
}

async fn letters(
    scene: &Scene<changestream_testkit::TestServer>,
    count: usize,
) -> Arc<MongoDeadLetters> {
    let store = Arc::new(MongoDeadLetters::new(&scene.database));
    eventually("the dead letters are written", async || {
        let found = store.list(&all(), None, 100).await.expect("letters");
        (found.len() == count).then_some(())
    })
    .await;
    store
}

/// Asks the running runtime for the replay of all letters, and gives what came of each.
async fn ask(
    store: &Arc<MongoDeadLetters>,
) -> Result<Vec<ReplayOutcome>, crate::support::BoxError> {
    let found = store.list(&all(), None, 100).await?;
    let mut replay = Replay::request(store.clone(), found, Some("the test")).await?;
    let mut outcomes = Vec::new();
    while let Some((_, outcome)) = replay.next(PATIENCE).await? {
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

#[tokio::test]
async fn a_running_runtime_replays_many_in_order_into_the_handler_that_failed() -> TestResult {
    let scene = Scene::new().await;
    let (seen, others, mended) = (Seen::default(), Seen::default(), Mended::default());
    let other = {
        let others = others.clone();
        let handle = move |change: RawChange| {
            others.push(Event::of(&change, 1));
            std::future::ready(Ok::<_, HandlerError>(()))
        };
        HandlerSpec::new("other", handle).collections(["orders"])
    };
    let builder = scene.runtime(&seen).handlers([fragile(&mended), other]);
    let runtime = Started::new(builder);
    scene.insert([5, 3, 4, 1, 2]).await?;
    let store = letters(&scene, 5).await;
    let first = seen.events();
    mended.mend();
    let outcomes = ask(&store).await?;
    runtime.stop().await?;
    assert_eq!(outcomes, vec![ReplayOutcome::Replayed; 5]);
    let events = seen.events();
    assert_eq!(
        events[5..],
        first[..],
        "the same events, ids included, in the order of the stream"
    );
    assert_eq!(
        others.ids().len(),
        5,
        "a handler that did not fail is not run again"
    );
    assert!(store.list(&all(), None, 9).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_replay_that_fails_again_keeps_the_letter_with_the_new_error() -> TestResult {
    let scene = Scene::new().await;
    let (seen, mended) = (Seen::default(), Mended::default());
    let runtime = Started::new(scene.runtime(&seen).handlers([fragile(&mended)]));
    scene.insert([13, 14]).await?;
    let store = letters(&scene, 2).await;
    let before = store.list(&all(), None, 9).await?;
    mended.mend();
    let outcomes = ask(&store).await?;
    runtime.stop().await?;
    let [ReplayOutcome::FailedAgain(letter), ReplayOutcome::Replayed] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(
        (&letter.id, &letter.event_id),
        (&before[0].id, &before[0].event_id)
    );
    assert_eq!(
        (before[0].attempts, &before[0].error[..]),
        (1, &["not yet".to_owned()][..])
    );
    assert_eq!(
        (letter.attempts, &letter.error[..]),
        (2, &["still broken".to_owned()][..])
    );
    assert_eq!(store.list(&all(), None, 9).await?, [(**letter).clone()]);
    Ok(())
}

#[tokio::test]
async fn the_letter_of_a_delivery_repeats_that_delivery_alone() -> TestResult {
    let scene = Scene::new().await;
    let (seen, mended) = (Seen::default(), Mended::default());
    let handle = async |State(seen): State<Seen>, change: RawChange| {
        seen.push(Event::of(&change, 1));
        Ok::<_, HandlerError>(vec!["first", "second"])
    };
    let spec = HandlerSpec::new("send", handle)
        .collections(["orders"])
        .to(["sink"]);
    let received = Arc::new(std::sync::Mutex::new(Vec::new()));
    let notes = {
        let received = Arc::clone(&received);
        let mended = mended.clone();
        SinkSpec::new(service_fn(move |delivery: Delivery| {
            let message = delivery.message();
            let payload = String::from_utf8_lossy(message.payload()).into_owned();
            let key = message.get_key().map(str::to_owned);
            received
                .lock()
                .expect("no panic")
                .push((delivery.id(), payload, key));
            std::future::ready(mended.result("the sink is down"))
        }))
    };
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]).sink("sink", notes));
    scene.insert([1]).await?;
    let store = letters(&scene, 2).await;
    mended.mend();
    let outcomes = ask(&store).await?;
    runtime.stop().await?;
    assert_eq!(outcomes, vec![ReplayOutcome::Replayed; 2]);
    assert_eq!(seen.ids(), [1], "the handler is not run again");
    let received = received.lock().expect("no panic").clone();
    assert_eq!(received.len(), 4);
    assert_eq!(
        received[..2],
        received[2..],
        "the same ids, messages and keys"
    );
    Ok(())
}

#[tokio::test]
async fn what_a_replayed_handler_returns_is_delivered_or_becomes_a_letter_of_its_own() -> TestResult
{
    let (mended_handler, mended_sink) = (Mended::default(), Mended::default());
    let delivered = Seen::default();
    let handle = {
        let mended = mended_handler.clone();
        move || std::future::ready(mended.result("not yet").map(|()| "sent"))
    };
    let mut runtime = TestRuntime::builder()
        .handlers([HandlerSpec::new("send", handle)
            .collections(["orders"])
            .to(["sink"])])
        .sink("sink", sink(&delivered, &mended_sink))
        .build()?;
    let everything = DeadLetterFilter::default();
    runtime.send(change::insert("orders").id(1_i64)).await;
    mended_handler.mend();
    let of_handler = everything.clone().handler("send");
    let outcomes = runtime.replay(&of_handler).await?;
    assert_eq!(
        outcomes[0].1,
        ReplayOutcome::Replayed,
        "the handler succeeded"
    );
    let letters = runtime.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].sink(), Some("sink"));
    mended_sink.mend();
    let outcomes = runtime.replay(&everything.sink("sink")).await?;
    assert_eq!(
        outcomes,
        [(letters[0].id().to_owned(), ReplayOutcome::Replayed)]
    );
    assert!(runtime.dead_letters().is_empty());
    assert!(delivered.ids().len() >= 2);
    Ok(())
}

#[tokio::test]
async fn a_runtime_that_does_not_run_replays_itself() -> TestResult {
    let scene = Scene::new().await;
    let (seen, mended) = (Seen::default(), Mended::default());
    let runtime = Started::new(scene.runtime(&seen).handlers([fragile(&mended)]));
    scene.insert([2, 13, 1]).await?;
    let store = letters(&scene, 3).await;
    runtime.stop().await?;
    mended.mend();
    let runtime = scene.runtime(&seen).handlers([fragile(&mended)]).build()?;
    let outcomes = runtime
        .replay(&DeadLetterFilter::default().handler("fragile"))
        .await?;
    let replayed: Vec<_> = outcomes
        .iter()
        .map(|(_, outcome)| *outcome == ReplayOutcome::Replayed)
        .collect();
    assert_eq!(replayed, [true, false, true]);
    assert_eq!(seen.ids(), [2, 13, 1, 2, 13, 13, 1]);
    let left = store.list(&all(), None, 9).await?;
    assert_eq!(left.len(), 1);
    assert!(!left[0].awaits_replay());
    Ok(())
}

#[tokio::test]
async fn a_letter_of_a_handler_that_is_gone_is_refused_and_stays() -> TestResult {
    let scene = Scene::new().await;
    let (seen, mended) = (Seen::default(), Mended::default());
    let runtime = Started::new(scene.runtime(&seen).handlers([fragile(&mended)]));
    scene.insert([1]).await?;
    let store = letters(&scene, 1).await;
    runtime.stop().await?;
    let runtime = Started::new(
        scene
            .runtime(&seen)
            .handlers([crate::support::recorder(&["orders"])]),
    );
    let outcomes = ask(&store).await?;
    runtime.stop().await?;
    let [ReplayOutcome::Refused(reason)] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert!(reason.contains("no handler named `fragile`"), "{reason}");
    assert_eq!(store.list(&all(), None, 9).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_replay_in_which_the_runtime_dies_is_taken_up_by_the_next_one() -> TestResult {
    let scene = Scene::new().await;
    let (seen, mended) = (Seen::default(), Mended::default());
    let gate = Arc::new(Semaphore::new(0));
    let start = || {
        let (mended, gate) = (mended.clone(), Arc::clone(&gate));
        let handle = move |State(seen): State<Seen>, change: RawChange| {
            seen.push(Event::of(&change, 1));
            let (result, gate) = (mended.result("not yet"), Arc::clone(&gate));
            async move {
                result?;
                gate.acquire().await?.forget();
                Ok::<_, HandlerError>(())
            }
        };
        let spec = HandlerSpec::new("fragile", handle).collections(["orders"]);
        Started::new(
            scene
                .runtime(&seen)
                .handlers([spec.timeout(Duration::from_secs(3600))]),
        )
    };
    let runtime = start();
    scene.insert([1]).await?;
    let store = letters(&scene, 1).await;
    mended.mend();
    let found = store.list(&all(), None, 9).await?;
    let mut replay = Replay::request(store.clone(), found, None).await?;
    seen.count(2).await;
    runtime.crash().await;
    assert_eq!(store.list(&all().awaits_replay(), None, 9).await?.len(), 1);
    gate.add_permits(9);
    let runtime = start();
    let (_, outcome) = replay.next(PATIENCE).await?.ok_or("an outcome")?;
    runtime.stop().await?;
    assert_eq!(outcome, ReplayOutcome::Replayed);
    let events = seen.events();
    assert!(events.len() >= 3, "{events:?}");
    assert!(
        events
            .iter()
            .all(|event| event.event_id == events[0].event_id)
    );
    Ok(())
}

#[tokio::test]
async fn a_shutdown_finishes_the_replay_at_hand() -> TestResult {
    let scene = Scene::new().await;
    let (seen, mended) = (Seen::default(), Mended::default());
    let gate = Arc::new(Semaphore::new(0));
    let handle = {
        let (mended, gate) = (mended.clone(), Arc::clone(&gate));
        move |State(seen): State<Seen>, change: RawChange| {
            seen.push(Event::of(&change, 1));
            let (result, gate) = (mended.result("not yet"), Arc::clone(&gate));
            async move {
                result?;
                gate.acquire().await?.forget();
                Ok::<_, HandlerError>(())
            }
        }
    };
    let spec = HandlerSpec::new("fragile", handle).collections(["orders"]);
    let spec = spec.timeout(Duration::from_secs(3600));
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]));
    scene.insert([1, 2]).await?;
    let store = letters(&scene, 2).await;
    mended.mend();
    let found = store.list(&all(), None, 9).await?;
    let _replay = Replay::request(store.clone(), found.clone(), None).await?;
    seen.count(3).await;
    let stopping = tokio::spawn(runtime.stop());
    gate.add_permits(1);
    stopping.await??;
    let left = store.list(&all(), None, 9).await?;
    assert!(!left.contains(&found[0]) && left.iter().all(|letter| letter.id != found[0].id));
    Ok(())
}

#[tokio::test]
async fn nobody_there_to_replay_is_said_and_the_request_withdrawn() -> TestResult {
    let scene = Scene::new().await;
    let (seen, mended) = (Seen::default(), Mended::default());
    let runtime = Started::new(scene.runtime(&seen).handlers([fragile(&mended)]));
    scene.insert([1, 2]).await?;
    let store = letters(&scene, 2).await;
    runtime.stop().await?;
    let found = store.list(&all(), None, 9).await?;
    let mut replay = Replay::request(store.clone(), found, None).await?;
    let error = replay
        .next(Duration::from_millis(500))
        .await
        .expect_err("nobody");
    assert!(matches!(error, ReplayError::NotTaken { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("no runtime named `test` is running"),
        "{error}"
    );
    let left = store.list(&all(), None, 9).await?;
    assert_eq!(left.len(), 2);
    assert!(
        left.iter().all(|letter| letter.replay.is_none()),
        "{left:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_down_after_a_replay_does_not_repeat_it() -> TestResult {
    let store = FaultyDeadLetters {
        inner: MemoryDeadLetters::default(),
        faults: Faults::default(),
    };
    let (mended, seen) = (Mended::default(), Seen::default());
    let handle = {
        let (mended, seen, faults) = (mended.clone(), seen.clone(), store.faults.clone());
        move |change: RawChange| {
            seen.push(Event::of(&change, 1));
            let result = mended.result("not yet");
            if result.is_ok() {
                faults.begin();
            }
            std::future::ready(result)
        }
    };
    let mut runtime = TestRuntime::builder()
        .handlers([HandlerSpec::new("fragile", handle).collections(["orders"])])
        .dead_letter_store(store.clone())
        .build()?;
    runtime.send(change::insert("orders").id(1_i64)).await;
    mended.mend();
    let replaying = tokio::spawn(async move {
        let everything = DeadLetterFilter::default();
        runtime.replay(&everything).await
    });
    let failed = async || (store.faults.failures() > 1).then_some(());
    eventually("removing failed again and again", failed).await;
    assert_eq!(
        store.inner.letters().len(),
        1,
        "it stays until it can be removed"
    );
    store.faults.heal();
    let outcomes = crate::support::within("the replay", replaying).await??;
    assert_eq!(outcomes[0].1, ReplayOutcome::Replayed);
    assert!(store.inner.letters().is_empty());
    assert_eq!(seen.ids(), [1, 1]);
    Ok(())
}
