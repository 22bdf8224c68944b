//! The Kafka sink against brokers, and against those of librdkafka that fail on demand.

mod conformance;
mod failures;
mod login;
mod outage;
mod reader;
mod record;
mod settings;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use changestream_core::{
    BoxSink, Delivery, Disposition, HandlerError, HandlerSpec, Message, SinkSpec,
    testing::{TestRuntime, change, delivery_of},
};
use changestream_sinks::KafkaSink;
use tokio::time::timeout;
use tower::{ServiceExt, layer::layer_fn};

/// How long a broker may take for what it does at once.
const DEADLINE: Duration = Duration::from_secs(30);

/// The sink as a service, as a runtime has it, with one producer for all that it is sent.
fn service(sink: KafkaSink) -> BoxSink {
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

/// The delivery of a text, about the insert of a document with this id.
fn of(id: i32, text: impl Into<String>) -> Delivery {
    let message = Message::new(text.into(), "text/plain").key(id.to_string());
    delivery_of(change::insert("orders").id(id), message)
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
