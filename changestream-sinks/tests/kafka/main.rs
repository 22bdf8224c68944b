//! The Kafka sink against brokers, and against those of librdkafka that fail on demand.

#[path = "../support/chain.rs"]
mod chain;
mod conformance;
mod failures;
mod login;
mod outage;
mod reader;
mod record;
#[path = "../support/send.rs"]
mod send;
mod settings;
mod transaction;

use changestream_core::{
    Delivery, Disposition, HandlerError, Message,
    testing::{change, delivery_of, service},
};

use chain::chain;
use send::{DEADLINE, send};

/// The delivery of a text, about the insert of a document with this id.
fn of(id: i32, text: impl Into<String>) -> Delivery {
    let message = Message::new(text.into(), "text/plain").key(id.to_string());
    delivery_of(change::insert("orders").id(id), message)
}

#[track_caller]
fn assert_error(result: Result<(), HandlerError>, disposition: Disposition, message: &str) {
    let error = result.expect_err("the delivery fails");
    assert_eq!(error.disposition(), disposition, "{error}");
    assert_eq!(chain(&error), message);
}
