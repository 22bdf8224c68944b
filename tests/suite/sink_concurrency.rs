//! How many deliveries to a sink are under way, which comes first, and what they leave to others.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use changestream::{
    Delivery, Message, Priority, RawChange, SinkSpec,
    prelude::*,
    testing::{TestRuntime, change},
};
use futures::stream;
use tokio::time::{Instant, sleep};
use tower::service_fn;

const SECOND: Duration = Duration::from_secs(1);

/// What a sink has delivered, each with the time since the start.
type Delivered = Arc<Mutex<Vec<(String, Duration)>>>;

/// A sink that takes so long for each message.
fn sink(takes: Duration) -> (SinkSpec, Delivered) {
    let (delivered, begin) = (Delivered::default(), Instant::now());
    let keep = Arc::clone(&delivered);
    let sink = service_fn(move |delivery: Delivery| {
        let keep = Arc::clone(&keep);
        async move {
            sleep(takes).await;
            let text = String::from_utf8_lossy(delivery.message().payload()).into_owned();
            keep.lock().expect("no panic").push((text, begin.elapsed()));
            Ok::<(), HandlerError>(())
        }
    });
    (sink.into(), delivered)
}

/// A handler that sends the `_id` of each event to the sink of its collection's name.
fn to_sink_of(collection: &'static str) -> HandlerSpec<()> {
    let handler = |key: DocumentKey| async move {
        let id: i32 = key.get("_id")?.expect("an id");
        let message = Message::new(id.to_string(), "text/plain");
        Ok::<_, HandlerError>(match id % 3 {
            0 => message.priority(Priority::High),
            1 => message,
            _ => message.priority(Priority::Low),
        })
    };
    HandlerSpec::new(collection, handler)
        .collections([collection])
        .to([collection])
}

fn inserts(collections: &[&str], ids: std::ops::Range<i32>) -> Vec<RawChange> {
    let of = |id| {
        collections
            .iter()
            .map(move |name| change::insert(name).id(id).build())
    };
    ids.flat_map(of).collect()
}

fn times(delivered: &Delivered) -> Vec<u64> {
    let delivered = delivered.lock().expect("no panic");
    delivered.iter().map(|(_, time)| time.as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_leaves_the_lanes_to_the_events_of_others() {
    let (slow, of_slow) = sink(10 * SECOND);
    let (fast, of_fast) = sink(SECOND);
    let slow = slow.timeout(60 * SECOND);
    let runtime = TestRuntime::builder()
        .concurrency(2)
        .handlers([to_sink_of("slow"), to_sink_of("fast")])
        .sink("slow", slow)
        .sink("fast", fast)
        .build()
        .expect("a runtime");
    runtime
        .run(stream::iter([inserts(&["slow", "fast"], 0..50)]))
        .await;
    assert_eq!(times(&of_fast), [1; 50]);
    assert_eq!(times(&of_slow), [10; 50]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_gets_so_many_deliveries_at_a_time_and_the_urgent_ones_first() {
    let (slow, delivered) = sink(SECOND);
    let runtime = TestRuntime::builder()
        .handlers([to_sink_of("slow")])
        .sink("slow", slow.concurrency(3))
        .build()
        .expect("a runtime");
    runtime.run(stream::iter([inserts(&["slow"], 0..12)])).await;
    assert_eq!(times(&delivered), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    let delivered = delivered.lock().expect("no panic");
    let urgency = |(text, _): &(String, Duration)| text.parse::<i32>().expect("a number") % 3;
    let order: Vec<_> = delivered.iter().skip(3).map(urgency).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(order, sorted, "the urgent ones first");
}

#[tokio::test(start_paused = true)]
async fn with_one_lane_the_next_event_waits_for_the_delivery() {
    let (slow, delivered) = sink(SECOND);
    let runtime = TestRuntime::builder()
        .concurrency(1)
        .handlers([to_sink_of("slow")])
        .sink("slow", slow)
        .build()
        .expect("a runtime");
    runtime.run(stream::iter([inserts(&["slow"], 0..4)])).await;
    assert_eq!(times(&delivered), [1, 2, 3, 4]);
}

#[test]
fn a_sink_that_takes_nothing_at_a_time_is_refused() {
    let (sink, _) = sink(SECOND);
    let runtime = TestRuntime::builder().handlers([to_sink_of("slow")]);
    let error = runtime
        .sink("slow", sink.concurrency(0))
        .build()
        .expect_err("no room");
    assert_eq!(error.to_string(), "the concurrency of sink `slow` is zero");
}
