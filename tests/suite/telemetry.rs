//! The documented metrics and span fields, and G13: what logs do not say.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Write as _},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use changestream::{Delivery, HandlerError, SinkSpec, prelude::*};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use mongodb::bson::doc;
use serde::Deserialize;
use tower::service_fn;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt, registry::LookupSpan};

use crate::support::{Event, Scene, Seen, Started, TestResult, recorder};

/// Every metric by its name and labels.
fn metrics(snapshotter: &Snapshotter) -> BTreeMap<String, DebugValue> {
    let snapshot = snapshotter.snapshot().into_vec().into_iter();
    snapshot
        .map(|(key, _, _, value)| {
            let mut labels: Vec<_> = key
                .key()
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            labels.sort();
            (
                format!("{}{{{}}}", key.key().name(), labels.join(",")),
                value,
            )
        })
        .collect()
}

#[tokio::test]
async fn the_documented_metrics_are_there() -> TestResult {
    let recorder_of_metrics = DebuggingRecorder::new();
    let snapshotter = recorder_of_metrics.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder_of_metrics);
    let scene = Scene::new().await;
    let seen = Seen::default();
    let handle = async |State(seen): State<Seen>, change: RawChange, Attempt(attempt): Attempt| {
        let event = Event::of(&change, attempt);
        seen.push(event.clone());
        match (event.id, attempt) {
            (Some(1), 1) => Err(HandlerError::retry("once")),
            (Some(2), _) => Err(HandlerError::reject("never")),
            (Some(3), 1) => panic!("by accident"),
            (Some(4), 1) => std::future::pending().await,
            _ => Ok(Message::new("sent", "text/plain")),
        }
    };
    let spec = HandlerSpec::new("fragile", handle)
        .collections(["orders"])
        .to(["out"]);
    let spec = spec.timeout(Duration::from_millis(100));
    let sink = SinkSpec::new(service_fn(|delivery: Delivery| async move {
        match delivery.attempt().0 {
            1 => Err(HandlerError::retry("once")),
            _ => Ok(()),
        }
    }));
    let builder = scene
        .runtime(&seen)
        .handlers([spec, recorder(&["customers"])]);
    let runtime = Started::new(builder.sink("out", sink));
    scene.insert(1..6).await?;
    scene.insert_into("customers", [6]).await?;
    seen.all([6]).await;
    runtime.stop().await?;

    let metrics = metrics(&snapshotter);
    let counter = |name: &str, expected| {
        assert_eq!(
            metrics.get(name),
            Some(&DebugValue::Counter(expected)),
            "{name} of {metrics:#?}"
        );
    };
    let handler = "handler=fragile,runtime=test";
    counter(&format!("changestream_events_total{{{handler}}}"), 5);
    counter(&format!("changestream_retries_total{{{handler}}}"), 3);
    counter(&format!("changestream_dead_letters_total{{{handler}}}"), 1);
    for (kind, count) in [
        ("failed", 2),
        ("panic", 1),
        ("timeout", 1),
        ("rejection", 0),
    ] {
        let labels = format!("handler=fragile,kind={kind},runtime=test");
        counter(&format!("changestream_errors_total{{{labels}}}"), count);
    }
    counter("changestream_events_total{runtime=test,sink=out}", 4);
    counter("changestream_retries_total{runtime=test,sink=out}", 4);
    counter("changestream_dead_letters_total{runtime=test,sink=out}", 0);
    counter("changestream_events_total{handler=record,runtime=test}", 1);
    let gauge = |name: &str| match metrics.get(name) {
        Some(DebugValue::Gauge(value)) => value.into_inner(),
        other => panic!("{name} is {other:?}"),
    };
    assert_eq!(gauge(&format!("changestream_in_flight{{{handler}}}")), 0.0);
    assert_eq!(gauge("changestream_in_flight{runtime=test,sink=out}"), 0.0);
    assert!((0.0..60.0).contains(&gauge("changestream_lag_seconds{runtime=test}")));
    assert_eq!(
        gauge("changestream_ready{runtime=test}"),
        0.0,
        "it has stopped"
    );
    let Some(DebugValue::Histogram(durations)) =
        metrics.get(&format!("changestream_duration_seconds{{{handler}}}"))
    else {
        panic!("{metrics:#?}")
    };
    assert_eq!(durations.len(), 5);
    assert!(
        durations.iter().any(|seconds| seconds.into_inner() >= 0.1),
        "a timeout is part of it"
    );
    Ok(())
}

/// Keeps the fields of every span, as they are in the end.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<HashMap<u64, BTreeMap<String, String>>>>);

impl Spans {
    fn record(&self, id: &span::Id, name: Option<&str>, record: impl FnOnce(&mut Fields<'_>)) {
        let mut spans = self.0.lock().expect("no panic");
        let fields = spans.entry(id.into_u64()).or_default();
        if let Some(name) = name {
            *fields = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        }
        record(&mut Fields(fields));
    }
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

/// One span of an event, once it was closed.
#[derive(Clone, Default)]
struct Closed(Spans, Arc<Mutex<Vec<BTreeMap<String, String>>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Closed {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, _: Context<'_, S>) {
        let name = attributes.metadata().name();
        self.0
            .record(id, Some(name), |fields| attributes.record(fields));
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        self.0.record(id, None, |fields| values.record(fields));
    }

    fn on_close(&self, id: span::Id, _: Context<'_, S>) {
        let fields = self.0.0.lock().expect("no panic").remove(&id.into_u64());
        self.1.lock().expect("no panic").extend(fields);
    }
}

#[tokio::test]
async fn every_event_has_a_span_that_says_which_it_is() -> TestResult {
    let closed = Closed::default();
    let subscriber = tracing_subscriber::registry().with(closed.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let scene = Scene::new().await;
    let seen = Seen::default();
    let handle = async |State(seen): State<Seen>, change: RawChange, Attempt(attempt): Attempt| {
        seen.push(Event::of(&change, attempt));
        if attempt == 1 {
            Err(HandlerError::retry("once"))
        } else {
            Ok(())
        }
    };
    let spec = HandlerSpec::new("fragile", handle).collections(["orders"]);
    let runtime = Started::new(
        scene
            .runtime(&seen)
            .handlers([spec, recorder(&["customers"])]),
    );
    scene.insert([1]).await?;
    scene.insert_into("customers", [2]).await?;
    let events = seen.all([2]).await;
    runtime.stop().await?;

    let spans = closed.1.lock().expect("no panic").clone();
    let of_event: Vec<_> = spans
        .iter()
        .filter(|span| span["name"] == "change")
        .collect();
    let [first, _] = of_event.as_slice() else {
        panic!("{spans:#?}")
    };
    let namespace = format!("{}.orders", scene.database.name());
    let event_id = events[0].event_id.to_string();
    let expected = [
        ("handler", "fragile"),
        ("namespace", &namespace),
        ("operation", "insert"),
        ("event_id", &event_id),
        ("attempt", "2"),
    ];
    for (field, value) in expected {
        assert_eq!(
            first.get(field).map(String::as_str),
            Some(value),
            "{first:#?}"
        );
    }
    Ok(())
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0
            .lock()
            .expect("no panic")
            .write_str(&text)
            .expect("room");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_hold_no_content_no_token_and_no_secret() -> TestResult {
    #[derive(Debug, Deserialize)]
    struct Order {
        #[expect(dead_code, reason = "only decoded")]
        card: u32,
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());

    let scene = Scene::own().await;
    let uri = format!("{}&appName=app-s3cret", scene.server.uri());
    let client = crate::support::client(&uri).await;
    let seen = Seen::default();
    let typed = HandlerSpec::new("typed", async |_: FullDocument<Order>| {
        Ok::<_, HandlerError>(())
    });
    let failing = async |change: RawChange| {
        let order = change.full_document().expect("an insert's document");
        Err::<(), _>(HandlerError::reject(format!(
            "refused: {order:?}, {:?}",
            order.get_str("card")
        )))
    };
    let failing = HandlerSpec::new("failing", failing);
    let panicking = async |change: RawChange| -> Result<(), HandlerError> {
        let order = change.full_document().expect("an insert's document");
        panic!("{:?}", order.get_str("card"))
    };
    let panicking = HandlerSpec::new("panicking", panicking).retries(0);
    let sending = HandlerSpec::new("sending", async |change: RawChange| {
        let order = change
            .full_document()
            .map(|order| order.as_bytes().to_vec());
        Ok::<_, HandlerError>(
            Message::new(order.unwrap_or_default(), "application/bson").key("key-s3cret"),
        )
    });
    let sink = service_fn(|_: Delivery| async {
        Err::<(), _>(HandlerError::reject("the receiver is away"))
    });
    let handlers =
        [typed, failing, panicking, sending.to(["out"])].map(|spec| spec.collections(["orders"]));
    let builder = scene
        .runtime_through(&client, &seen)
        .sink("out", sink)
        .checkpoint_events(1);
    let runtime = Started::new(builder.handlers(handlers).handlers([recorder(&["orders"])]));
    let mut tokens = Vec::new();
    for id in ["id-s3cret-1", "id-s3cret-2"] {
        let order = doc! { "_id": id, "card": "4111-s3cret" };
        scene.collection("orders").insert_one(order).await?;
        tokens = crate::support::eventually("the dead letters are there", async || {
            let letters = scene.dead_letters().await;
            let token = |letter: &mongodb::bson::Document| {
                letter.get_document("token").map(|token| token.to_string())
            };
            let of_id = |letter: &&mongodb::bson::Document| letter.to_string().contains(id);
            let tokens: Vec<_> = letters
                .iter()
                .filter(of_id)
                .filter_map(|letter| token(letter).ok())
                .collect();
            (tokens.len() >= 4).then_some(tokens)
        })
        .await;
        scene.server.kill().await?;
        scene.server.restart().await?;
    }
    runtime.stop().await?;

    let log = log.0.lock().expect("no panic").clone();
    assert!(log.contains("dead letter"), "{log}");
    assert!(log.contains("failing"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
    for token in tokens {
        let data = token
            .split('"')
            .find(|part| part.len() > 20)
            .expect("a token's text");
        assert!(!log.contains(&data[..40]), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_has_one_span_and_counts_each_of_its_events() -> TestResult {
    let recorder_of_metrics = DebuggingRecorder::new();
    let snapshotter = recorder_of_metrics.snapshotter();
    let _metrics = metrics::set_default_local_recorder(&recorder_of_metrics);
    let closed = Closed::default();
    let subscriber = tracing_subscriber::registry().with(closed.clone());
    let _spans = tracing::subscriber::set_default(subscriber);
    let scene = Scene::new().await;
    let seen = Seen::default();
    scene.insert(1..5).await?;
    let handle =
        async |State(seen): State<Seen>, batch: Vec<RawChange>, Attempt(attempt): Attempt| {
            let mut failed = Vec::new();
            for (place, change) in batch.iter().enumerate() {
                let event = Event::of(change, attempt);
                match (event.id, attempt) {
                    (Some(2), 1) => failed.push((place, HandlerError::retry("once"))),
                    (Some(3), _) => failed.push((place, HandlerError::reject("never"))),
                    _ => seen.push(event),
                }
            }
            match failed.is_empty() {
                true => Ok(()),
                false => Err(HandlerError::partial(failed)),
            }
        };
    let spec = HandlerSpec::batch("bulk", 4, Duration::from_secs(3600), handle);
    let builder = scene
        .runtime(&seen)
        .handlers([spec.collections(["orders"])]);
    let runtime = Started::new(builder);
    seen.all([1, 2, 4]).await;
    runtime.stop().await?;

    let metrics = metrics(&snapshotter);
    for (name, expected) in [
        ("changestream_events_total{handler=bulk,runtime=test}", 4),
        ("changestream_retries_total{handler=bulk,runtime=test}", 1),
        (
            "changestream_dead_letters_total{handler=bulk,runtime=test}",
            1,
        ),
        (
            "changestream_errors_total{handler=bulk,kind=failed,runtime=test}",
            2,
        ),
    ] {
        let counted = Some(&DebugValue::Counter(expected));
        assert_eq!(metrics.get(name), counted, "{name} of {metrics:#?}");
    }
    let in_flight = metrics.get("changestream_in_flight{handler=bulk,runtime=test}");
    assert_eq!(in_flight, Some(&DebugValue::Gauge(0.0.into())));
    let spans = closed.1.lock().expect("no panic").clone();
    let batches: Vec<_> = spans
        .iter()
        .filter(|span| span["name"] == "batch")
        .collect();
    let [batch] = batches.as_slice() else {
        panic!("{spans:#?}")
    };
    for (field, value) in [("handler", "bulk"), ("events", "4"), ("attempt", "2")] {
        assert_eq!(batch[field], value, "{batch:#?}");
    }
    Ok(())
}
