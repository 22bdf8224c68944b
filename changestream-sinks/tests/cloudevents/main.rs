//! CloudEvents around real sinks, read by another implementation.

mod attributes;
mod http;
mod kafka;
mod nats;
mod python;
mod rejections;
mod settings;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use changestream_core::{
    HandlerError, HandlerSpec, Message, Operation, RawChange, RuntimeBuilder, SinkSpec,
    testing::{NoServer, RecordingSink, TestRuntime, change},
};
use changestream_sinks::CloudEvents;
use python::Seen;
use serde_json::{Value, json};

/// What headers, URIs and JSON each have a way of their own to write.
const KEY: &str = "Zo\u{eb} \"50 %\" a/b?c#d \u{1f600}";
const RUNTIME: &str = "shop \u{e9} \"%\"";

fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_767_323_045_006)
}

fn update() -> change::ChangeBuilder {
    change::update("orders").id(7).set("n", 1).wall_time(at())
}

/// A runtime whose handler `changed` returns the message to the sink.
fn runtime(sink: SinkSpec, message: Message) -> RuntimeBuilder<(), NoServer> {
    let handler = move || {
        let message = message.clone();
        async move { Ok::<_, HandlerError>(message) }
    };
    TestRuntime::builder()
        .name(RUNTIME)
        .handlers([HandlerSpec::new("changed", handler)
            .operations([
                Operation::Insert,
                Operation::Update,
                Operation::DropDatabase,
            ])
            .to(["sink"])])
        .sink("sink", sink)
}

/// Sends the message, of this event; the errors of the dead letter where it fails.
async fn send(
    sink: SinkSpec,
    change: impl Into<RawChange>,
    message: Message,
) -> Result<(), Vec<String>> {
    let mut runtime = runtime(sink, message).build().expect("a runtime");
    runtime.send(change).await;
    match runtime.dead_letters().as_slice() {
        [] => Ok(()),
        [letter] => {
            assert_eq!(letter.attempts(), 1, "rejected, not retried");
            Err(letter.error().to_vec())
        }
        letters => panic!("one delivery and {} dead letters", letters.len()),
    }
}

/// What comes to a sink that the envelope is around.
async fn sent(events: CloudEvents, change: impl Into<RawChange>, message: Message) -> Message {
    let sink = RecordingSink::default();
    let result = send(events.around(sink.clone()), change, message).await;
    result.expect("delivered");
    sink.deliveries()[0].message().clone()
}

/// Messages of each kind, with the data that a receiver is to see.
fn messages() -> Vec<(Message, Value)> {
    let text = "\"50 %\"\n\tZo\u{eb} \u{1f600} </a>";
    let object = json!({ "text": text, "n": [1, -2.5, null, true], "": {} });
    let bytes = [0, 255, 13, 10, b'"', b'%'];
    let base64 = json!({ "base64": "AP8NCiIl" });
    vec![
        (Message::json(&object).expect("JSON"), object.clone()),
        (
            Message::new(r#""just 100 % text""#, "text/json"),
            json!("just 100 % text"),
        ),
        (
            Message::new(object.to_string(), "application/vnd.shop+json; v=1"),
            object,
        ),
        (Message::new(text, "text/plain; charset=utf-8"), json!(text)),
        (
            Message::new("<a b=\"%\">\u{eb}</a>", "application/xml"),
            json!("<a b=\"%\">\u{eb}</a>"),
        ),
        (
            Message::new(bytes.to_vec(), "application/octet-stream"),
            base64.clone(),
        ),
        (Message::new(bytes.to_vec(), "text/plain"), base64),
    ]
}

/// What a receiver is to see of a message of this event.
fn seen(change: &RawChange, message: &Message, data: Value) -> Seen {
    let attributes = [
        ("specversion", "1.0".to_owned()),
        ("id", format!("{}/changed/0", change.event_id())),
        (
            "source",
            "/changestream/shop%20%C3%A9%20%22%25%22".to_owned(),
        ),
        ("type", "test.orders.update".to_owned()),
        ("subject", KEY.to_owned()),
        ("partitionkey", KEY.to_owned()),
        ("time", "2026-01-02 03:04:05.006000+00:00".to_owned()),
        ("datacontenttype", message.content_type().to_owned()),
    ];
    Seen {
        attributes: attributes
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        data,
    }
}

fn headers<const N: usize>(headers: [(&str, &str); N]) -> BTreeMap<String, String> {
    headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}
