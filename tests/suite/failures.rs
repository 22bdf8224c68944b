//! G8 and the rules of failure: retried, dead-lettered whole, never skipped.

use std::{
    error::Error as StdError,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use changestream::{
    Delivery, EventId, HandlerError, OnSinkDown, RuntimeBuilder, SinkSpec, prelude::*,
};
use mongodb::bson::{Document, doc};
use serde::Deserialize;
use tower::service_fn;

use crate::support::{Event, Scene, Seen, Started, TestResult, recorder};

/// An error with a cause.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the order is broken")
    }
}

impl StdError for Broken {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&fmt::Error)
    }
}

type Outcome = Result<(), HandlerError>;

/// A handler of `orders` that notes the event and then does what `outcome` says of its id and attempt.
fn handler<F, Fut>(outcome: F) -> HandlerSpec<Seen>
where
    F: Fn(i64, u32) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let handle = move |State(seen): State<Seen>, change: RawChange, Attempt(attempt): Attempt| {
        let event = Event::of(&change, attempt);
        let outcome = outcome(event.id.expect("an id"), attempt);
        seen.push(event);
        outcome
    };
    HandlerSpec::new("fragile", handle).collections(["orders"])
}

fn attempts(events: &[Event], id: i64) -> Vec<u32> {
    let of_id = events.iter().filter(|event| event.id == Some(id));
    of_id.map(|event| event.attempt).collect()
}

/// Runs the handler on orders 1 and 2, then stops.
async fn run(
    spec: HandlerSpec<Seen>,
    setup: impl FnOnce(RuntimeBuilder<Seen>) -> RuntimeBuilder<Seen>,
) -> Result<(Vec<Event>, Vec<Document>), crate::support::BoxError> {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let runtime = Started::new(setup(scene.runtime(&seen).handlers([spec])));
    scene.insert([1, 2]).await?;
    seen.all([2]).await;
    runtime.stop().await?;
    Ok((seen.events(), scene.dead_letters().await))
}

#[tokio::test]
async fn a_failure_is_retried_until_it_passes() -> TestResult {
    let spec = handler(async |id, attempt| match (id, attempt) {
        (1, 1 | 2) => Err(HandlerError::retry(Broken)),
        _ => Ok(()),
    });
    let (events, letters) = run(spec, |builder| builder).await?;
    assert_eq!(attempts(&events, 1), [1, 2, 3]);
    assert_eq!(attempts(&events, 2), [1]);
    assert_eq!(events.last().and_then(|event| event.id), Some(2));
    assert!(letters.is_empty());
    Ok(())
}

#[tokio::test]
async fn exhausted_retries_make_a_dead_letter_that_holds_everything() -> TestResult {
    let spec = handler(async |id, _| if id == 1 { Err(Broken.into()) } else { Ok(()) });
    let (events, letters) = run(spec, |builder| builder).await?;
    assert_eq!(attempts(&events, 1), [1, 2, 3, 4]);
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    let event_id = events[0].event_id.to_string();
    assert_eq!(letter.get_str("_id")?, format!("test/fragile/{event_id}"));
    assert_eq!(letter.get_str("runtime")?, "test");
    assert_eq!(letter.get_str("handler")?, "fragile");
    assert_eq!(letter.get_str("eventId")?, event_id);
    assert_eq!(letter.get_str("operation")?, "insert");
    assert!(letter.get_str("namespace")?.ends_with(".orders"));
    assert_eq!(letter.get_str("kind")?, "failed");
    assert_eq!(
        letter
            .get_i64("attempts")
            .or(letter.get_i32("attempts").map(i64::from))?,
        4
    );
    let error: Vec<_> = letter
        .get_array("error")?
        .iter()
        .filter_map(|text| text.as_str())
        .collect();
    assert_eq!(
        error,
        ["the order is broken".to_owned(), fmt::Error.to_string()]
    );
    assert!(letter.get_datetime("failedAt").is_ok());
    let change = letter.get_document("change")?;
    assert_eq!(
        change.get_document("fullDocument")?,
        &doc! { "_id": 1_i64, "n": 1_i64 }
    );
    assert_eq!(change.get_document("_id")?, letter.get_document("token")?);
    let change = RawChange::new(mongodb::bson::serialize_to_vec(change)?)?;
    assert_eq!(change.event_id(), events[0].event_id);
    Ok(())
}

/// The kind, the attempts and the first message of the dead letter of order 1, whose handler is `outcome`.
async fn letter_of<Fut>(
    outcome: fn() -> Fut,
) -> Result<(String, usize, String), crate::support::BoxError>
where
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let spec = handler(move |id, _| async move { if id == 1 { outcome().await } else { Ok(()) } });
    let quick =
        |builder: RuntimeBuilder<Seen>| builder.retries(1).timeout(Duration::from_millis(200));
    let (events, letters) = run(spec, quick).await?;
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    let message = letter.get_array("error")?[0].as_str().unwrap_or_default();
    Ok((
        letter.get_str("kind")?.to_owned(),
        attempts(&events, 1).len(),
        message.to_owned(),
    ))
}

#[tokio::test]
async fn a_rejection_is_not_retried() -> TestResult {
    let (kind, attempts, message) =
        letter_of(|| async { Err(HandlerError::reject(Broken)) }).await?;
    assert_eq!(
        (kind.as_str(), attempts, message.as_str()),
        ("failed", 1, "the order is broken")
    );
    Ok(())
}

#[tokio::test]
async fn a_handler_that_hangs_is_timed_out_and_retried() -> TestResult {
    let (kind, attempts, message) = letter_of(std::future::pending).await?;
    assert_eq!(
        (kind.as_str(), attempts, message.as_str()),
        ("timeout", 2, "no result within 200ms")
    );
    Ok(())
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() -> TestResult {
    let (kind, attempts, message) = letter_of(|| async { panic!("out of order") }).await?;
    assert_eq!(
        (kind.as_str(), attempts, message.as_str()),
        ("panic", 2, "panicked: out of order")
    );
    Ok(())
}

#[tokio::test]
async fn retry_after_waits_as_long_as_it_says() -> TestResult {
    const PAUSE: Duration = Duration::from_millis(700);
    let spec = handler(async |id, attempt| match (id, attempt) {
        (1, 1) => Err(HandlerError::retry_after(PAUSE, Broken)),
        _ => Ok(()),
    });
    let started = Instant::now();
    let (events, _) = run(spec, |builder| builder).await?;
    assert!(started.elapsed() >= PAUSE);
    assert_eq!(attempts(&events, 1), [1, 2]);
    Ok(())
}

#[tokio::test]
async fn a_handlers_own_values_go_before_the_runtimes() -> TestResult {
    let spec = handler(async |id, _| {
        if id == 1 {
            std::future::pending().await
        } else {
            Ok(())
        }
    });
    let spec = spec
        .retries(2)
        .timeout(Duration::from_millis(50))
        .backoff(Duration::from_millis(1));
    let slow = |builder: RuntimeBuilder<Seen>| {
        builder
            .retries(0)
            .timeout(Duration::from_secs(3600))
            .backoff(Duration::from_secs(3600))
    };
    let (events, letters) = run(spec, slow).await?;
    assert_eq!(attempts(&events, 1), [1, 2, 3]);
    assert_eq!(letters.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_document_that_does_not_decode_goes_alone() -> TestResult {
    #[derive(Deserialize)]
    struct Order {
        total: f64,
    }
    let scene = Scene::new().await;
    let (seen, handled) = (Seen::default(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let totals = Arc::clone(&handled);
    let handle = move |FullDocument(order): FullDocument<Order>| {
        totals.lock().expect("no panic").push(order.total);
        async { Ok::<_, HandlerError>(()) }
    };
    let spec = HandlerSpec::new("typed", handle).collections(["orders"]);
    let runtime = Started::new(scene.runtime(&seen).handlers([spec, recorder(&["orders"])]));
    let totals: [mongodb::bson::Bson; 3] = [1.0.into(), "hunter2".into(), 3.0.into()];
    for (id, total) in (1_i64..).zip(totals) {
        scene
            .collection("orders")
            .insert_one(doc! { "_id": id, "total": total })
            .await?;
    }
    seen.all(1..4).await;
    runtime.stop().await?;
    assert_eq!(*handled.lock().expect("no panic"), [1.0, 3.0]);
    let letters = scene.dead_letters().await;
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!(letter.get_str("kind")?, "rejection");
    assert_eq!(letter.get_str("handler")?, "typed");
    let document = letter
        .get_document("change")?
        .get_document("fullDocument")?;
    assert_eq!(document.get_str("total")?, "hunter2");
    Ok(())
}

/// A sink that notes what it received and fails where it is told to.
fn sink(received: &Seen, fails: fn(&Delivery) -> bool) -> SinkSpec {
    let received = received.clone();
    SinkSpec::new(service_fn(move |delivery: Delivery| {
        received.push(Event::of(delivery.change(), delivery.attempt().0));
        let fails = fails(&delivery);
        async move {
            if fails {
                Err(HandlerError::retry(Broken))
            } else {
                Ok(())
            }
        }
    }))
}

#[tokio::test]
async fn of_two_sinks_only_the_failing_one_leaves_a_dead_letter() -> TestResult {
    let [good, bad] = [Seen::default(), Seen::default()];
    let handle = async |State(seen): State<Seen>, change: RawChange, id: EventId| {
        seen.push(Event::of(&change, 1));
        Ok::<_, HandlerError>(
            Message::new(id.to_string(), "text/plain")
                .key("k")
                .header("a", "b"),
        )
    };
    let spec = HandlerSpec::new("sender", handle)
        .collections(["orders"])
        .to(["good", "bad"]);
    let fails = |delivery: &Delivery| {
        delivery
            .change()
            .full_document()
            .is_some_and(|order| matches!(order.get_i64("n"), Ok(1)))
    };
    let (events, letters) = run(spec, |builder| {
        let bad = sink(&bad, fails)
            .retries(1)
            .backoff(Duration::from_millis(1))
            .on_down(OnSinkDown::DeadLetter);
        builder
            .sink("good", sink(&good, |_| false))
            .sink("bad", bad)
    })
    .await?;
    assert_eq!(good.ids(), [1, 2]);
    assert_eq!(bad.ids(), [1, 1, 2]);
    assert_eq!(attempts(&bad.events(), 1), [1, 2]);
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    let event_id = events[0].event_id.to_string();
    assert_eq!(
        letter.get_str("_id")?,
        format!("test/sender/{event_id}/bad/0")
    );
    assert_eq!(letter.get_str("handler")?, "sender");
    assert_eq!(letter.get_str("sink")?, "bad");
    let message = letter.get_document("message")?;
    assert_eq!(message.get_binary_generic("payload")?, event_id.as_bytes());
    assert_eq!(message.get_str("key")?, "k");
    assert_eq!(message.get_document("headers")?, &doc! { "a": "b" });
    Ok(())
}
