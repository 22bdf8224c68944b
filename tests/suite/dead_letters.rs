//! A dead letter is durable before its event counts as finished.

use std::time::Duration;

use changestream::{Delivery, HandlerError, MemoryDeadLetters, prelude::*};

use crate::support::{
    Event, Scene, Seen, Started, TestResult, eventually, interrupted, ready,
    store::{Faults, FaultyDeadLetters},
    token_time,
};

/// Notes every order and rejects the second.
fn handler() -> HandlerSpec<Seen> {
    let handle = async |State(seen): State<Seen>, change: RawChange| {
        let event = Event::of(&change, 1);
        seen.push(event.clone());
        match event.id {
            Some(2) => Err(HandlerError::reject("never")),
            _ => Ok(()),
        }
    };
    HandlerSpec::new("fragile", handle).collections(["orders"])
}

fn store(faults: Faults) -> FaultyDeadLetters {
    FaultyDeadLetters {
        inner: MemoryDeadLetters::default(),
        faults,
    }
}

#[tokio::test]
async fn a_dead_letter_store_that_is_down_stalls_the_stream_until_it_is_back() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let store = store(Faults::down());
    let builder = scene.runtime(&seen).handlers([handler()]);
    let builder = builder
        .dead_letter_store(store.clone())
        .checkpoint_events(1);
    let runtime = Started::new(builder);
    scene.insert(1..5).await?;
    let failed = async || (store.faults.failures() > 2).then_some(());
    eventually("writing failed again and again", failed).await;
    assert_eq!(seen.ids(), [1, 2]);
    let reason = interrupted(&runtime.health).await;
    assert!(reason.contains("the store is down"), "{reason}");
    store.faults.heal();
    seen.all([3, 4]).await;
    ready(&runtime.health).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2, 3, 4], "the handler is not run again");
    let letters = store.inner.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].event_id(), seen.events()[1].event_id.to_string());
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_store_that_never_answers_is_asked_again() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let store = store(Faults::silent());
    let builder = scene.runtime(&seen).handlers([handler()]);
    let builder = builder.reply_timeout(Duration::from_secs(1));
    let runtime = Started::new(builder.dead_letter_store(store.clone()));
    scene.insert(1..5).await?;
    let asked = async || (store.faults.failures() > 1).then_some(());
    eventually("it is asked again", asked).await;
    let reason = interrupted(&runtime.health).await;
    assert!(
        reason.contains("the dead-letter store did not answer for 1s"),
        "{reason}"
    );
    assert_eq!(seen.ids(), [1, 2], "the event is not passed");
    store.faults.heal();
    seen.all([3, 4]).await;
    ready(&runtime.health).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2, 3, 4], "the handler is not run again");
    assert_eq!(store.inner.letters().len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_dead_letter_of_a_delivery_that_cannot_be_written_shows_too() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let store = store(Faults::down());
    let send = async |State(seen): State<Seen>, change: RawChange| {
        seen.push(Event::of(&change, 1));
        Ok::<_, HandlerError>("message")
    };
    let sink = tower::service_fn(|_: Delivery| async { Err::<(), _>(HandlerError::reject("no")) });
    let sender = HandlerSpec::new("send", send).collections(["orders"]);
    let builder = scene
        .runtime(&seen)
        .handlers([sender.to(["sink"])])
        .sink("sink", sink);
    let runtime = Started::new(builder.dead_letter_store(store.clone()));
    ready(&runtime.health).await;
    scene.insert(1..3).await?;
    interrupted(&runtime.health).await;
    store.faults.heal();
    seen.all([2]).await;
    ready(&runtime.health).await;
    runtime.stop().await?;
    assert_eq!(store.inner.letters().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_crash_before_the_dead_letter_is_written_repeats_the_event() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let store = store(Faults::down());
    let start = || {
        let builder = scene.runtime(&seen).handlers([handler()]);
        Started::new(
            builder
                .dead_letter_store(store.clone())
                .checkpoint_events(1),
        )
    };
    let runtime = start();
    scene.insert(1..3).await?;
    let failed = async || (store.faults.failures() > 0).then_some(());
    eventually("writing failed", failed).await;
    eventually("the first event is checkpointed", async || {
        let checkpoint = scene.checkpoint().await?;
        let reached = checkpoint.token().map(token_time)?;
        (reached >= seen.events()[0].time?).then_some(())
    })
    .await;
    runtime.crash().await;
    store.faults.heal();
    let runtime = start();
    scene.insert([3]).await?;
    let events = seen.all([3]).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2, 2, 3]);
    assert_eq!(events[1].event_id, events[2].event_id);
    assert_eq!(store.inner.letters().len(), 1);
    Ok(())
}
