//! Signed requests.

use axum::http::StatusCode;
use changestream_core::{Message, testing::delivery};
use changestream_sinks::{HttpSink, WebhookError, WebhookKey};
use standardwebhooks::Webhook;

use crate::{receiver::Receiver, send, text};

const KEYS: [&str; 3] = [
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "whsec_cGxlYXNlIHVzZSBhIHJhbmRvbSBrZXkh",
];

fn key(text: &str) -> WebhookKey {
    WebhookKey::new(text).unwrap()
}

/// Signs with the first two.
fn sink(receiver: &Receiver) -> HttpSink {
    let sink = HttpSink::new(receiver.url("/")).unwrap();
    sink.sign_with(key(KEYS[0])).sign_with(key(KEYS[1]))
}

#[tokio::test]
async fn another_implementation_verifies_every_attempt_with_either_key() {
    let receiver = Receiver::start(|index| match index {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    })
    .await;
    let sink = sink(&receiver);
    let delivery = delivery(Message::json(&serde_json::json!({ "name": "Zoë" })).unwrap());
    send(&sink, delivery.clone()).await.unwrap_err();
    send(&sink, delivery.clone()).await.unwrap();
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    for request in received {
        assert_eq!(request.header("webhook-id"), delivery.id());
        let verify = |key: &str| {
            let webhook = Webhook::new(key).expect("a key");
            webhook.verify(&request.body, &request.headers)
        };
        verify(KEYS[0]).unwrap();
        verify(KEYS[1]).unwrap();
        verify(KEYS[2]).unwrap_err();
    }
}

#[tokio::test]
async fn a_receiver_verifies_whatever_bytes_it_got() {
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let bytes = Message::new(vec![0, 255, 13, 10], "application/octet-stream");
    send(&sink(&receiver), delivery(bytes)).await.unwrap();
    let request = receiver.single();
    let verify = |text, body: &[u8]| key(text).verify(&request.headers, body);
    assert_eq!(verify(KEYS[0], &request.body), Ok(()));
    assert_eq!(verify(KEYS[1], &request.body), Ok(()));
    let wrong = Err(WebhookError::Signature);
    assert_eq!(verify(KEYS[2], &request.body), wrong);
    assert_eq!(verify(KEYS[0], &request.body[..3]), wrong);
}

#[tokio::test]
async fn a_sink_without_a_key_does_not_sign() {
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let sink = HttpSink::new(receiver.url("/")).unwrap();
    send(&sink, delivery(text("m"))).await.unwrap();
    let request = receiver.single();
    let mut names = request.headers.keys().map(|name| name.as_str());
    assert!(!names.any(|name| name.starts_with("webhook-")));
}
