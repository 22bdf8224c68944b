//! In NATS messages, for which the Python SDK has no binding.

use changestream_core::{Message, RawChange};
use changestream_sinks::CloudEvents;

use crate::{headers, sent, update};

/// The key has the example of the specification.
#[tokio::test]
async fn attributes_are_headers_as_the_binding_has_them() {
    let change: RawChange = update().into();
    let id = format!("{}/changed/0", change.event_id());
    let message = Message::new("m", "text/plain; charset=utf-8").key("Euro \u{20ac} \u{1f600}");
    let sent = sent(CloudEvents::nats_binary(), change, message).await;
    let key = "Euro%20%E2%82%AC%20%F0%9F%98%80";
    assert_eq!(&sent.payload()[..], b"m");
    assert_eq!(sent.content_type(), "text/plain; charset=utf-8");
    assert_eq!(
        *sent.headers(),
        headers([
            ("ce-specversion", "1.0"),
            ("ce-id", &id),
            (
                "ce-source",
                "/changestream/shop%2520%25C3%25A9%2520%2522%2525%2522"
            ),
            ("ce-type", "test.orders.update"),
            ("ce-subject", key),
            ("ce-partitionkey", key),
            ("ce-time", "2026-01-02T03:04:05.006Z"),
            ("ce-datacontenttype", "text/plain;%20charset=utf-8"),
        ])
    );
}
