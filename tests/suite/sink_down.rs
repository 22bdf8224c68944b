//! Sinks that are down: what waits, what is tried, and what does not wait for them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use changestream::{
    Delivery, MemoryDeadLetters, OnSinkDown, SinkSpec,
    prelude::*,
    testing::{TestRuntime, change},
};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, sleep};
use tower::service_fn;

use crate::support::{Event, Scene, Seen, Started, TestResult, interrupted, ready};

const MINUTE: Duration = Duration::from_secs(60);

/// What came to a sink.
#[derive(Clone, Default)]
struct Received(Arc<Inner>);

#[derive(Default)]
struct Inner {
    refused: AtomicU32,
    under_way: AtomicU32,
    most_at_once: AtomicU32,
    /// Each with the time since the start.
    taken: Mutex<Vec<(i64, Duration)>>,
}

impl Received {
    fn taken(&self) -> Vec<(i64, Duration)> {
        self.0.taken.lock().expect("no panic").clone()
    }

    fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<_> = self.taken().into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// A sink that refuses what `refuses` says, and takes 100 ms for that.
    fn sink(
        &self,
        refuses: impl Fn(i64, Duration) -> bool + Clone + Send + Sync + 'static,
    ) -> SinkSpec {
        let (received, begin) = (Arc::clone(&self.0), Instant::now());
        SinkSpec::new(service_fn(move |delivery: Delivery| {
            let (received, refuses) = (Arc::clone(&received), refuses.clone());
            async move {
                let id = id(&delivery);
                if !refuses(id, begin.elapsed()) {
                    let mut taken = received.taken.lock().expect("no panic");
                    taken.push((id, begin.elapsed()));
                    return Ok(());
                }
                let now = received.under_way.fetch_add(1, SeqCst) + 1;
                if received.refused.fetch_add(1, SeqCst) >= 20 {
                    received.most_at_once.fetch_max(now, SeqCst);
                }
                sleep(Duration::from_millis(100)).await;
                received.under_way.fetch_sub(1, SeqCst);
                Err(HandlerError::retry("503"))
            }
        }))
        .concurrency(16)
    }
}

fn id(delivery: &Delivery) -> i64 {
    let key = delivery.change().document_key().expect("of a document");
    key.get("_id").expect("an integer").expect("there")
}

fn to(sink: &'static str) -> HandlerSpec<()> {
    let send = async || Ok::<_, HandlerError>("message");
    HandlerSpec::new(format!("to_{sink}"), send)
        .collections(["orders"])
        .to([sink])
}

fn inserts(ids: impl IntoIterator<Item = i64>) -> Vec<RawChange> {
    let insert = |id| change::insert("orders").id(id).into();
    ids.into_iter().map(insert).collect()
}

/// Runs a handler for each sink; the dead letters by sink and document.
async fn run(
    sinks: impl IntoIterator<Item = (&'static str, SinkSpec)>,
    batches: impl Stream<Item = Vec<RawChange>>,
) -> Vec<String> {
    let letters = MemoryDeadLetters::default();
    let builder = TestRuntime::builder().dead_letter_store(letters.clone());
    let mut builder = builder.drain_deadline(24 * 60 * MINUTE);
    for (name, sink) in sinks {
        builder = builder.sink(name, sink).handlers([to(name)]);
    }
    builder.build().expect("a runtime").run(batches).await;
    let letters = letters.letters().into_iter();
    letters
        .map(|letter| letter.sink().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn one_delivery_at_a_time_tries_a_sink_that_is_down_and_others_go_on() {
    let (down, up) = (Received::default(), Received::default());
    let sinks = [
        ("down", down.sink(|_, time| time < 10 * MINUTE)),
        ("up", up.sink(|_, _| false)),
    ];
    let batches = stream::iter([inserts(1..=100)]);
    let letters = run(sinks, batches).await;
    assert_eq!(letters, [""; 0]);
    assert_eq!(down.ids(), Vec::from_iter(1..=100));
    assert_eq!(up.ids(), Vec::from_iter(1..=100));
    let late = |(_, time): &(i64, Duration)| *time >= MINUTE;
    assert!(!up.taken().iter().any(late), "{:?}", up.taken());
    // Those that were under way when it went down, and then a few in ten minutes.
    let refused = down.0.refused.load(SeqCst);
    assert!((20..100).contains(&refused), "{refused}");
    assert_eq!(down.0.most_at_once.load(SeqCst), 1);
}

/// However many were under way when it went down.
#[tokio::test(start_paused = true)]
async fn a_sink_that_was_down_for_a_moment_is_back_in_a_moment() {
    let sink = Received::default();
    let refuses = |_, time| time < Duration::from_secs(1);
    run(
        [("sink", sink.sink(refuses))],
        stream::iter([inserts(1..=200)]),
    )
    .await;
    assert_eq!(sink.ids(), Vec::from_iter(1..=200));
    let late = |(_, time): &(i64, Duration)| *time > Duration::from_secs(10);
    assert!(!sink.taken().iter().any(late), "{:?}", sink.taken());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_sink_fails_at_becomes_a_dead_letter_when_another_one_was_answered() {
    let sink = Received::default();
    let hour = 60 * MINUTE;
    let alone = Arc::new(AtomicBool::new(false));
    let batches = stream::iter([inserts([1]), inserts([2])]).then(|batch| async {
        // Both at once would be no question.
        sleep(hour).await;
        batch
    });
    let tried = Arc::clone(&alone);
    let refuses = move |id, time| {
        tried.fetch_or(time > hour + 30 * MINUTE, SeqCst);
        id == 1
    };
    let letters = run([("sink", sink.sink(refuses))], batches).await;
    assert!(
        alone.load(SeqCst),
        "it was tried for as long as it was alone"
    );
    assert_eq!(letters, ["sink"]);
    assert_eq!(sink.ids(), [2]);
}

#[tokio::test(start_paused = true)]
async fn messages_for_a_part_that_is_not_there_wait_while_others_are_taken() {
    let refused = Arc::new(AtomicU32::new(0));
    let sink = |taken: Arc<Mutex<Vec<i64>>>, on_down| {
        let begin = Instant::now();
        let refused = Arc::clone(&refused);
        let service = service_fn(move |delivery: Delivery| {
            let (taken, refused) = (Arc::clone(&taken), Arc::clone(&refused));
            async move {
                let id = id(&delivery);
                if id % 3 == 0 && begin.elapsed() < 10 * MINUTE {
                    refused.fetch_add(1, SeqCst);
                    return Err(HandlerError::unavailable("no connection"));
                }
                taken.lock().expect("no panic").push(id);
                Ok(())
            }
        });
        SinkSpec::new(service).on_down(on_down)
    };
    let batches = || {
        let batches = (0..300).map(|batch| inserts(batch * 3..batch * 3 + 3));
        stream::iter(batches).then(|batch| async {
            sleep(MINUTE / 30).await;
            batch
        })
    };
    let taken = Arc::default();
    let pausing = sink(Arc::clone(&taken), OnSinkDown::Pause);
    assert_eq!(run([("sink", pausing)], batches()).await, [""; 0]);
    let mut taken = std::mem::take(&mut *taken.lock().expect("no panic"));
    let is_late = |id: &i64| id % 3 == 0;
    assert!(
        !taken[..500].iter().any(is_late),
        "one of them held others up"
    );
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter(0..900));

    // Three hundred of them, each for five minutes on average; 100,000 without a pause after their attempts.
    let refused = refused.load(SeqCst);
    assert!((1_000..30_000).contains(&refused), "{refused}");

    let letting_go = sink(Arc::default(), OnSinkDown::DeadLetter);
    assert!(!run([("sink", letting_go)], batches()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_shall_not_wait_becomes_a_dead_letter_and_is_mostly_not_sent() {
    let sink = Received::default();
    let spec = sink.sink(|_, _| true).on_down(OnSinkDown::DeadLetter);
    let letters = run([("sink", spec)], stream::iter([inserts(1..=100)])).await;
    assert_eq!(letters, ["sink"; 100]);
    let refused = sink.0.refused.load(SeqCst);
    assert!((5..100).contains(&refused), "{refused} of 400 attempts");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_an_answer() {
    let rejects = async |_: Delivery| Err::<(), _>(HandlerError::reject("400"));
    let spec = SinkSpec::new(service_fn(rejects));
    let begin = Instant::now();
    let letters = run([("sink", spec)], stream::iter([inserts(1..=100)])).await;
    assert_eq!(letters, ["sink"; 100]);
    assert!(begin.elapsed() < MINUTE, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_sink_that_is_down_shows_in_the_health_and_its_events_come_when_it_is_back() -> TestResult
{
    let scene = Scene::new().await;
    let seen = Seen::default();
    let is_down = Arc::new(AtomicBool::new(true));
    let sink = {
        let (seen, is_down) = (seen.clone(), Arc::clone(&is_down));
        service_fn(move |delivery: Delivery| {
            let is_down = is_down.load(SeqCst);
            if !is_down {
                seen.push(Event::of(delivery.change(), 1));
            }
            async move {
                match is_down {
                    true => Err(HandlerError::retry("503")),
                    false => Ok(()),
                }
            }
        })
    };
    let send = async || Ok::<_, HandlerError>("message");
    let spec = HandlerSpec::new("send", send)
        .collections(["orders"])
        .to(["out"]);
    let sink = SinkSpec::new(sink).backoff(Duration::from_millis(1));
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]).sink("out", sink));
    ready(&runtime.health).await;
    scene.insert([1, 2]).await?;
    assert_eq!(interrupted(&runtime.health).await, "down: sink `out`");
    is_down.store(false, SeqCst);
    seen.all([1, 2]).await;
    ready(&runtime.health).await;
    runtime.stop().await?;
    Ok(())
}
