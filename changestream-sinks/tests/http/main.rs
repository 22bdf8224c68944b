//! The HTTP sink against real servers.

#[path = "../support/chain.rs"]
mod chain;
mod guard;
mod receiver;
mod request;
mod response;
mod settings;
mod tls;
mod webhook;

use changestream_core::{Delivery, Disposition, HandlerError, Message};
use changestream_sinks::HttpSink;
use tower::ServiceExt;

use chain::chain;

async fn send(sink: &HttpSink, delivery: Delivery) -> Result<(), HandlerError> {
    sink.clone().oneshot(delivery).await
}

fn text(text: &'static str) -> Message {
    Message::new(text, "text/plain")
}

#[track_caller]
fn assert_error(result: Result<(), HandlerError>, disposition: Disposition, message: &str) {
    let error = result.expect_err("the delivery fails");
    assert_eq!(error.disposition(), disposition, "{error}");
    assert_eq!(error.to_string(), message);
}
