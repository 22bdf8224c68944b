//! In Kafka records, as a Kafka sink makes them of messages.

use changestream_core::{Message, RawChange};
use changestream_sinks::CloudEvents;

use crate::{
    KEY, headers, messages,
    python::{self, Wire},
    seen, sent, update,
};

/// The record's key is the message's, and a header its content type.
fn wire(message: &Message) -> Wire {
    let mut headers = message.headers().clone();
    headers.insert("content-type".to_owned(), message.content_type().to_owned());
    Wire::new("kafka", headers, message.get_key(), message.payload())
}

async fn python_agrees(events: CloudEvents) -> Vec<Message> {
    let (mut expected, mut records) = (Vec::new(), Vec::new());
    for (message, data) in messages() {
        let message = message.key(KEY);
        let change: RawChange = update().into();
        expected.push(seen(&change, &message, data));
        records.push(sent(events.clone(), change, message).await);
    }
    let wires: Vec<_> = records.iter().map(wire).collect();
    assert_eq!(python::receive(&wires), expected);
    records
}

#[tokio::test]
async fn python_sees_events_in_structured_mode() {
    python_agrees(CloudEvents::structured()).await;
}

#[tokio::test]
async fn python_sees_events_in_binary_mode() {
    let records = python_agrees(CloudEvents::kafka_binary()).await;
    for (record, (message, _)) in records.iter().zip(messages()) {
        assert_eq!(record.payload(), message.payload());
        assert_eq!(record.content_type(), message.content_type());
    }
}

#[tokio::test]
async fn attributes_are_headers_as_the_binding_has_them() {
    let change: RawChange = update().into();
    let id = format!("{}/changed/0", change.event_id());
    let message = Message::new("m", "text/plain")
        .key(KEY)
        .header("tenant", "7");
    let record = sent(CloudEvents::kafka_binary(), change, message).await;
    assert_eq!(record.get_key(), Some(KEY));
    assert_eq!(
        *record.headers(),
        headers([
            ("ce_specversion", "1.0"),
            ("ce_id", &id),
            ("ce_source", "/changestream/shop%20%C3%A9%20%22%25%22"),
            ("ce_type", "test.orders.update"),
            ("ce_subject", KEY),
            ("ce_partitionkey", KEY),
            ("ce_time", "2026-01-02T03:04:05.006Z"),
            ("tenant", "7"),
        ])
    );
}
