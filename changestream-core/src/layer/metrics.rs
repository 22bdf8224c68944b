//! Metrics through the `metrics` facade: whatever recorder the application installs receives them.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Instant,
};

use metrics::{Counter, Gauge, Histogram, Label, Unit};
use pin_project_lite::pin_project;
use tower::Service;

use super::StackRequest;
use crate::handler::FailureKind;

/// One handler's or one sink's metrics, resolved when they are first used, so that a recorder installed
/// after the runtime was built still counts.
#[derive(Debug)]
pub(crate) struct Meter(Arc<Series>);

#[derive(Debug)]
struct Series {
    labels: Vec<Label>,
    handles: OnceLock<Handles>,
}

#[derive(Debug)]
struct Handles {
    calls: Counter,
    failures: [Counter; FailureKind::ALL.len()],
    retries: Counter,
    dead_letters: Counter,
    duration: Histogram,
    in_flight: Gauge,
}

impl Meter {
    /// For `kind`, which is `handler` or `sink`, of this name.
    pub(crate) fn new(runtime: &str, kind: &'static str, name: &str) -> Arc<Self> {
        let series = Series {
            labels: vec![
                Label::new("runtime", runtime.to_owned()),
                Label::new(kind, name.to_owned()),
            ],
            handles: OnceLock::new(),
        };
        Arc::new(Self(Arc::new(series)))
    }

    /// The same metrics for another lane, whose clones share no reference count with those of this one.
    pub(crate) fn of_lane(&self) -> Arc<Self> {
        Arc::new(Self(Arc::clone(&self.0)))
    }

    pub(crate) fn failed(&self, kind: FailureKind) {
        self.handles().failures[kind as usize].increment(1);
    }

    pub(crate) fn retried(&self) {
        self.handles().retries.increment(1);
    }

    pub(crate) fn dead_lettered(&self) {
        self.handles().dead_letters.increment(1);
    }

    fn handles(&self) -> &Handles {
        self.0.handles.get_or_init(|| self.0.resolve())
    }
}

impl Series {
    fn resolve(&self) -> Handles {
        describe();
        let labels = || self.labels.clone();
        Handles {
            calls: metrics::counter!("changestream_events_total", labels()),
            failures: std::array::from_fn(|kind| {
                let kind = FailureKind::ALL[kind];
                let mut labels = labels();
                labels.push(Label::from_static_parts("kind", kind.as_str()));
                metrics::counter!("changestream_errors_total", labels)
            }),
            retries: metrics::counter!("changestream_retries_total", labels()),
            dead_letters: metrics::counter!("changestream_dead_letters_total", labels()),
            duration: metrics::histogram!("changestream_duration_seconds", labels()),
            in_flight: metrics::gauge!("changestream_in_flight", labels()),
        }
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "changestream_events_total",
        Unit::Count,
        "Events a handler received, messages a sink received"
    );
    describe_counter!(
        "changestream_errors_total",
        Unit::Count,
        "Failed attempts, by kind"
    );
    describe_counter!(
        "changestream_retries_total",
        Unit::Count,
        "Attempts after the first"
    );
    describe_counter!(
        "changestream_dead_letters_total",
        Unit::Count,
        "Dead letters written"
    );
    describe_histogram!(
        "changestream_duration_seconds",
        Unit::Seconds,
        "From the first attempt at an event, a batch or a message to the result, retries and deliveries included"
    );
    describe_gauge!(
        "changestream_in_flight",
        Unit::Count,
        "Events and messages being worked on"
    );
    describe_counter!(
        "changestream_snapshot_documents_total",
        Unit::Count,
        "Documents of snapshots that the handlers are done with"
    );
    describe_gauge!(
        "changestream_lag_seconds",
        Unit::Seconds,
        "Age of the oldest event in flight, else of the last one handled; 0 once caught up"
    );
    describe_gauge!(
        "changestream_ready",
        Unit::Count,
        "1 while the stream is open, checkpoints and dead letters are written, and no sink is down"
    );
    describe_gauge!(
        "changestream_sink_down",
        Unit::Count,
        "1 while the sink answers nobody"
    );
    describe_counter!(
        "changestream_interruptions_total",
        Unit::Count,
        "Interruptions, each of one error or many, by part"
    );
}

/// Counts events, the duration of calls, and events in flight.
#[derive(Clone, Debug)]
pub(crate) struct Metrics<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S> Metrics<S> {
    pub(crate) fn new(inner: S, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl<S, R> Service<R> for Metrics<S>
where
    S: Service<R>,
    R: StackRequest,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MetricsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let events = request.events();
        self.meter.handles().calls.increment(events as u64);
        MetricsFuture {
            call: Call::new(Arc::clone(&self.meter), events),
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    pub(crate) struct MetricsFuture<F> {
        #[pin]
        inner: F,
        call: Call,
    }
}

impl<F: Future> Future for MetricsFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.inner.poll(cx));
        this.call.finished();
        Poll::Ready(output)
    }
}

/// One call in flight, until it is dropped.
struct Call {
    meter: Arc<Meter>,
    events: usize,
    started: Instant,
}

impl Call {
    fn new(meter: Arc<Meter>, events: usize) -> Self {
        meter.handles().in_flight.increment(events as f64);
        Self {
            meter,
            events,
            started: Instant::now(),
        }
    }

    fn finished(&self) {
        self.meter.handles().duration.record(self.started.elapsed());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.meter.handles().in_flight.decrement(self.events as f64);
    }
}
