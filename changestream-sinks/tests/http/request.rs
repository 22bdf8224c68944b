//! What the receiver gets.

use axum::http::StatusCode;
use changestream_core::{Disposition, Message, testing::delivery};
use changestream_sinks::HttpSink;

use crate::{assert_error, receiver::Receiver, send, text};

#[tokio::test]
async fn a_message_is_one_post() {
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let sink = HttpSink::new(receiver.url("/orders/events?tenant=7")).unwrap();
    let message = Message::json(&serde_json::json!({ "sku": "A-1", "price": 9.5 })).unwrap();
    let delivery = delivery(message);

    send(&sink, delivery.clone()).await.unwrap();

    let request = receiver.single();
    assert_eq!(request.method, "POST");
    assert_eq!(request.uri, "/orders/events?tenant=7");
    assert_eq!(&request.body[..], br#"{"price":9.5,"sku":"A-1"}"#);
    let event_id = delivery.event_id().to_string();
    assert_eq!(request.header("X-Event-ID"), event_id);
    assert_eq!(request.header("X-Correlation-ID"), event_id);
    assert_eq!(request.header("Idempotency-Key"), delivery.id());
    assert_eq!(request.header("X-Event-Source"), "test");
    assert_eq!(request.header("Content-Type"), "application/json");
    assert_eq!(
        request.header("User-Agent"),
        concat!("changestream/", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn a_message_keeps_its_bytes_and_content_type() {
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let sink = HttpSink::new(receiver.url("/")).unwrap();
    let bytes = vec![0, 255, 13, 10];
    let message = Message::new(bytes.clone(), "application/x-protobuf; v=1");
    send(&sink, delivery(message)).await.unwrap();
    let request = receiver.single();
    assert_eq!(request.body, bytes);
    assert_eq!(
        request.header("Content-Type"),
        "application/x-protobuf; v=1"
    );
}

#[tokio::test]
async fn headers_are_the_messages_then_the_sinks() {
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let sink = HttpSink::new(receiver.url("/"))
        .and_then(|sink| sink.source("billing"))
        .and_then(|sink| sink.header("Authorization", "Bearer s3cret"))
        .and_then(|sink| sink.header("X-Tenant", "all"))
        .unwrap();
    let message = text("m")
        .header("X-Correlation-ID", "order-7")
        .header("x-tenant", "seven")
        .header("X-Customer", "Zoë");
    send(&sink, delivery(message)).await.unwrap();
    let request = receiver.single();
    assert_eq!(request.header("X-Event-Source"), "billing");
    assert_eq!(request.header("Authorization"), "Bearer s3cret");
    assert_eq!(request.header("X-Tenant"), "seven");
    assert_eq!(request.header("X-Correlation-ID"), "order-7");
    assert_eq!(request.headers["X-Customer"].as_bytes(), "Zoë".as_bytes());
}

#[tokio::test]
async fn a_header_cannot_be_injected() {
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let sink = HttpSink::new(receiver.url("/")).unwrap();
    let control = "has control characters";
    let cases = [
        (
            text("m").header("X-Note", "a\r\nX-Admin: yes"),
            format!("the value of the HTTP header `x-note` {control}"),
        ),
        (
            text("m").header("X-Note", "a\nb"),
            format!("the value of the HTTP header `x-note` {control}"),
        ),
        (
            text("m").header("X-A\r\nX-B", "a"),
            r#""X-A\r\nX-B" is not a valid name of an HTTP header"#.to_owned(),
        ),
        (
            text("m").header("X Note", "a"),
            r#""X Note" is not a valid name of an HTTP header"#.to_owned(),
        ),
        (
            Message::new("m", "text/plain\r\nX-Admin: yes"),
            format!("the value of the HTTP header `content-type` {control}"),
        ),
    ];
    for (message, problem) in cases {
        let result = send(&sink, delivery(message)).await;
        assert_error(result, Disposition::Reject, &problem);
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_message_cannot_set_what_the_sink_sets() {
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let sink = HttpSink::new(receiver.url("/")).unwrap();
    for name in [
        "X-Event-ID",
        "x-event-source",
        "Idempotency-Key",
        "Content-Type",
        "Content-Length",
        "Host",
        "Transfer-Encoding",
        "webhook-id",
        "Webhook-Signature",
        "webhook-timestamp",
    ] {
        let result = send(&sink, delivery(text("m").header(name, "1"))).await;
        let problem = format!("the HTTP sink sets the header `{name}` itself; remove it");
        assert_error(result, Disposition::Reject, &problem);
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn connections_are_kept_alive() {
    let receiver = Receiver::start(|_| "thanks, got it").await;
    let sink = HttpSink::new(receiver.url("/")).unwrap();
    for _ in 0..5 {
        send(&sink, delivery(text("m"))).await.unwrap();
    }
    let received = receiver.received();
    assert_eq!(received.len(), 5);
    assert!(received.iter().all(|one| one.peer == received[0].peer));
}
