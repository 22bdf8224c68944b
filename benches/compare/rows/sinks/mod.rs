//! What a sink delivers in a second, next to the bare client library with the same sends.
//!
//! A sink takes part alone, and in the whole engine, whose events are from memory. The bare clients have no events.

mod http;
mod kafka;
mod mongodb;
mod nats;
mod redis;
pub(super) mod slow;

use bytes::Bytes;
use changestream::{
    BoxSink, Delivery, RawChange,
    prelude::*,
    testing::{TestRuntime, change, delivery_of, service},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::select;
use tower::{ServiceExt, layer::layer_fn};

use crate::{
    Figures, Result,
    backlog::{Backlog, Item, first_id},
    comparison::{Comparison, Contestant, Job, Target},
    measure::{Measure, Meter},
    receiver::Receiver,
    sdk::Seen,
};

/// The handler, the sink, and the collection of the events.
const NAME: &str = "items";
/// Events that come at once.
const BATCH: usize = 2_000;

pub(crate) fn comparisons(events: u64) -> Vec<Comparison> {
    vec![
        http::comparison(events / 10),
        kafka::comparison(events / 2),
        kafka::transactions(events / 2),
        mongodb::comparison(events / 4),
        nats::comparison(events / 4),
        redis::comparison(events),
    ]
}

/// A sink against the client that is its contestant. `at_once` is how many deliveries a sink has under way by default.
fn comparison(
    about: &str,
    events: u64,
    receiver: Option<Receiver>,
    at_once: usize,
    client: Contestant,
    sink: impl AsyncFn(&Job) -> Result<SinkSpec> + Copy + 'static,
) -> Comparison {
    let alone = Contestant::new("the sink", move |job| async move {
        let sink = sink(&job).await?;
        alone(job, sink, at_once).await
    });
    let whole = Contestant::new("changestream", move |job| async move {
        let sink = sink(&job).await?;
        whole(job, sink).await
    });
    Comparison {
        name: format!("sinks-{}", client.label),
        about: about.into(),
        receiver,
        backlog: Backlog::Empty,
        events,
        contestants: vec![client, alone, whole],
        columns: vec![Measure::EventsPerSecond, Measure::ClientCpu],
        targets: vec![Target::rate(0.9)],
        plot: None,
    }
}

/// Delivers so many messages by a sink and nothing else.
async fn alone(job: Job, sink: SinkSpec, at_once: usize) -> Result<Figures> {
    let deliveries = deliveries(job.events)?;
    let sink = service(sink);
    let meter = Meter::start(&job.client).await?;
    stream::iter(deliveries)
        .map(|delivery| sink.clone().oneshot(delivery))
        .buffer_unordered(at_once)
        .try_collect::<()>()
        .await
        .map_err(|error| error.to_string())?;
    meter.stop(job.events).await
}

/// Delivers so many messages with the whole stack around the sink.
async fn whole(job: Job, sink: SinkSpec) -> Result<Figures> {
    let seen = Seen::expecting(job.events);
    let runtime = TestRuntime::builder()
        .handlers([sender(NAME, payload()?)])
        .sink(NAME, counted(sink, &seen))
        .build()?;
    let (changes, expected) = ((0..job.events).map(event).collect(), job.events);
    deliver(job, runtime, changes, seen, expected).await
}

/// A handler that sends this to the sink of the same name, for each insert into the collection of that name.
fn sender(name: &str, payload: Bytes) -> HandlerSpec<()> {
    let handler = move |_: RawChange| {
        let message = Message::new(payload.clone(), "application/json");
        async { Ok::<_, HandlerError>(message) }
    };
    HandlerSpec::new(name, handler)
        .collections([name])
        .to([name])
}

/// A sink that counts what it has delivered.
fn counted(sink: SinkSpec, seen: &Seen) -> SinkSpec {
    let seen = seen.clone();
    sink.layer(layer_fn(move |sink: BoxSink| {
        let seen = seen.clone();
        sink.map_response(move |()| seen.one())
    }))
}

/// Handles events until so many were delivered.
async fn deliver(
    job: Job,
    runtime: TestRuntime,
    changes: Vec<RawChange>,
    seen: Seen,
    expected: u64,
) -> Result<Figures> {
    let batches: Vec<_> = changes.chunks(BATCH).map(<[_]>::to_vec).collect();
    let meter = Meter::start(&job.client).await?;
    select! {
        biased;
        () = seen.all() => {}
        () = runtime.run(stream::iter(batches)) => {}
    }
    match seen.missing() {
        0 => meter.stop(expected).await,
        missing => Err(format!("{missing} messages were not delivered").into()),
    }
}

/// What is sent where there is no engine: deliveries of the same events, made beforehand.
fn deliveries(events: u64) -> Result<Vec<Delivery>> {
    let payload = payload()?;
    let delivery = |n: u64| {
        let message = Message::new(payload.clone(), "application/json");
        delivery_of(event(n), message.key(n.to_string()))
    };
    Ok((0..events).map(delivery).collect())
}

fn event(n: u64) -> RawChange {
    change::insert(NAME).id(n as i64).build()
}

/// An item without its id, as JSON, of about 220 bytes; another one in each process, so that what is written replaces
/// something else.
fn payload() -> Result<Bytes> {
    let mut item = serde_json::to_value(Item::new(first_id(), Item::LEAST_BYTES))?;
    let fields = item.as_object_mut().ok_or("an item is an object")?;
    fields.remove("_id");
    Ok(serde_json::to_vec(&item)?.into())
}
