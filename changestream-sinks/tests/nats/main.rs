//! The NATS sink against real servers.

#[path = "../support/chain.rs"]
mod chain;
mod conformance;
mod login;
mod message;
mod outage;
mod refused;
#[path = "../support/send.rs"]
mod send;
mod settings;
mod stream;
mod subject;
mod subscriber;
mod tls;

use std::time::Duration;

use changestream_core::{BoxSink, Delivery, Disposition, HandlerError, Message, testing::service};
use tokio::time::{Instant, sleep};

use chain::chain;
use send::{DEADLINE, send};

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

#[track_caller]
fn assert_error(result: Result<(), HandlerError>, disposition: Disposition, message: &str) {
    let error = result.expect_err("the delivery fails");
    assert_eq!(error.disposition(), disposition, "{error}");
    assert_eq!(chain(&error), message);
}
