//! The NATS sink against real servers.

mod conformance;
mod login;
mod message;
mod outage;
mod refused;
mod settings;
mod stream;
mod subject;
mod subscriber;
mod tls;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use changestream_core::{
    BoxSink, Delivery, Disposition, HandlerError, HandlerSpec, Message, SinkSpec,
    testing::TestRuntime,
};
use changestream_sinks::NatsSink;
use tokio::time::{Instant, sleep, timeout};
use tower::{ServiceExt, layer::layer_fn};

const DEADLINE: Duration = Duration::from_secs(30);

/// The sink as a service, as a runtime has it, with one connection for all that it is sent.
fn service(sink: NatsSink) -> BoxSink {
    let slot = Arc::new(Mutex::new(None));
    let taken = Arc::clone(&slot);
    let spec = SinkSpec::from(sink).layer(layer_fn(move |inner: BoxSink| {
        *taken.lock().unwrap() = Some(inner.clone());
        inner
    }));
    let send = async || Ok::<_, HandlerError>("message");
    let handler = HandlerSpec::new("send", send).to(["sink"]);
    let runtime = TestRuntime::builder()
        .handlers([handler])
        .sink("sink", spec);
    runtime.build().unwrap();
    let service = slot.lock().unwrap().take();
    service.expect("the layer was applied")
}

async fn send(service: &BoxSink, delivery: Delivery) -> Result<(), HandlerError> {
    let sent = timeout(DEADLINE, service.clone().oneshot(delivery)).await;
    sent.expect("an answer in time")
}

/// Tries again, as a runtime does, until it is delivered.
async fn deliver(service: &BoxSink, delivery: &Delivery) {
    let begin = Instant::now();
    while let Err(error) = send(service, delivery.clone()).await {
        assert_eq!(error.disposition(), Disposition::Retry, "{error}");
        assert!(begin.elapsed() < DEADLINE, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn text(text: &'static str) -> Message {
    Message::new(text, "text/plain")
}

/// The errors' messages, outermost first.
fn chain(error: &HandlerError) -> String {
    let mut messages = vec![error.to_string()];
    let mut cause = error.source().source();
    while let Some(error) = cause {
        messages.push(error.to_string());
        cause = error.source();
    }
    messages.join(": ")
}

#[track_caller]
fn assert_error(result: Result<(), HandlerError>, disposition: Disposition, message: &str) {
    let error = result.expect_err("the delivery fails");
    assert_eq!(error.disposition(), disposition, "{error}");
    assert_eq!(chain(&error), message);
}
