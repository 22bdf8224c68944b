//! What a stream stores.

use async_nats::jetstream::stream;
use changestream_core::{
    Disposition, HandlerError, HandlerSpec, Message,
    testing::{TestRuntime, change, delivery, delivery_of},
};
use changestream_sinks::NatsSink;

use crate::{
    assert_error, send, service,
    stream::{Stream, header},
    text,
};

fn sink(stream: &Stream) -> NatsSink {
    NatsSink::jetstream(stream.server.uri(), "shop.{collection}.{operation}").unwrap()
}

#[tokio::test]
async fn a_message_is_stored_with_what_it_is_about() {
    let stream = Stream::start().await;
    let message = Message::json(&serde_json::json!({ "sku": "A-1", "price": 9.5 })).unwrap();
    let delivery = delivery(message);
    send(&service(sink(&stream)), delivery.clone())
        .await
        .unwrap();
    let stored = stream.single().await;
    assert_eq!(stored.subject.as_str(), "shop.orders.insert");
    assert_eq!(&stored.payload[..], br#"{"price":9.5,"sku":"A-1"}"#);
    let event_id = delivery.event_id().to_string();
    let expected = [
        ("Nats-Msg-Id", format!("test/sink/{}", delivery.id())),
        ("Idempotency-Key", delivery.id()),
        ("X-Event-ID", event_id.clone()),
        ("X-Correlation-ID", event_id),
        ("X-Event-Source", "test".into()),
        ("Content-Type", "application/json".into()),
    ];
    for (name, value) in &expected {
        assert_eq!(header(&stored, name), value, "{name}");
    }
    let count = stored.headers.expect("headers").iter().count();
    assert_eq!(count, expected.len());
}

#[tokio::test]
async fn a_message_keeps_its_bytes_and_its_headers() {
    let stream = Stream::start().await;
    let bytes = vec![0, 255, b'\r', b'\n', b'.'];
    let message = Message::new(bytes.clone(), "application/x-protobuf; v=1")
        .header("X-Customer", "Zoë\t1")
        .header("x-correlation-id", "order-7");
    let sink = sink(&stream)
        .source("billing")
        .and_then(|sink| sink.expect_stream(Stream::NAME));
    send(&service(sink.unwrap()), delivery(message))
        .await
        .unwrap();
    let stored = stream.single().await;
    assert_eq!(stored.payload, bytes);
    for (name, value) in [
        ("Content-Type", "application/x-protobuf; v=1"),
        ("X-Customer", "Zoë\t1"),
        ("x-correlation-id", "order-7"),
        ("X-Event-Source", "billing"),
        ("Nats-Expected-Stream", "SHOP"),
    ] {
        assert_eq!(header(&stored, name), value, "{name}");
    }
    let headers = stored.headers.expect("headers");
    assert!(headers.get("X-Correlation-ID").is_none());
}

#[tokio::test]
async fn the_same_delivery_twice_is_one_message() {
    let stream = Stream::start().await;
    let delivery = delivery(text("m"));
    let first = service(sink(&stream));
    send(&first, delivery.clone()).await.unwrap();
    send(&first, delivery.clone()).await.unwrap();
    // Nor is it after a restart.
    send(&service(sink(&stream)), delivery).await.unwrap();
    stream.single().await;
}

/// A stream drops what has the id of another message, whatever its subject is.
#[tokio::test]
async fn two_sinks_into_one_stream_do_not_lose_each_others_messages() {
    let stream = Stream::start().await;
    let url = stream.server.uri();
    let send = async || Ok::<_, HandlerError>("message");
    for runtime in ["one", "other"] {
        let runtime = TestRuntime::builder()
            .name(runtime)
            .handlers([HandlerSpec::new("send", send).to(["a", "b"])])
            .sink("a", NatsSink::jetstream(&url, "shop.a").unwrap())
            .sink("b", NatsSink::jetstream(&url, "shop.b").unwrap());
        let mut runtime = runtime.build().unwrap();
        let report = runtime.send(change::insert("orders").id(1)).await;
        assert_eq!(report.handled(), ["send"]);
    }
    let stored = stream.stored().await;
    let mut subjects: Vec<_> = stored.iter().map(|one| one.subject.as_str()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["shop.a", "shop.a", "shop.b", "shop.b"]);
}

#[tokio::test]
async fn a_header_that_is_not_valid_is_rejected() {
    let stream = Stream::start().await;
    let sink = service(sink(&stream));
    for (message, problem) in [
        (
            text("m").header("X-Note", "a\r\nX-Admin: yes"),
            "the value of the NATS header `X-Note` has control characters",
        ),
        (
            text("m").header("X-Note", "a\0b"),
            "the value of the NATS header `X-Note` has control characters",
        ),
        (
            text("m").header("X-Note", "a\u{85}b"),
            "the value of the NATS header `X-Note` has control characters",
        ),
        (
            text("m").header("X-A\r\nX-B", "a"),
            r#""X-A\r\nX-B" is not a valid name of a NATS header"#,
        ),
        (
            text("m").header("X:Note", "a"),
            r#""X:Note" is not a valid name of a NATS header"#,
        ),
        (
            text("m").header("", "a"),
            r#""" is not a valid name of a NATS header"#,
        ),
        (
            Message::new("m", "text/plain\r\nX-Admin: yes"),
            "the value of the NATS header `Content-Type` has control characters",
        ),
        (
            text("m").header("idempotency-key", "1"),
            "the NATS sink sets the header `idempotency-key` itself; remove it",
        ),
        (
            text("m").header("X-Event-ID", "1"),
            "the NATS sink sets the header `X-Event-ID` itself; remove it",
        ),
        (
            text("m").header("nats-msg-id", "1"),
            "the NATS sink sets the header `nats-msg-id` itself; remove it",
        ),
        (
            text("m").header("Nats-Rollup", "all"),
            "the NATS sink sets the header `Nats-Rollup` itself; remove it",
        ),
    ] {
        let result = send(&sink, delivery(message)).await;
        assert_error(result, Disposition::Reject, problem);
    }
    assert!(stream.stored().await.is_empty());
}

#[tokio::test]
async fn a_large_message_is_sent_if_the_server_takes_it() {
    let stream = Stream::without(changestream_testkit::NatsServer::builder()).await;
    stream
        .create(stream::Config {
            subjects: vec!["shop.>".into()],
            max_message_size: 2000,
            ..Stream::config()
        })
        .await;
    let sink = service(sink(&stream));
    let of = |length: usize| {
        delivery_of(
            change::insert("orders").id(length as i64),
            Message::new(vec![b'x'; length], "text/plain"),
        )
    };
    send(&sink, of(1000)).await.unwrap();
    let error = send(&sink, of(3000)).await.expect_err("over the stream's");
    assert_eq!(error.disposition(), Disposition::Reject);
    let address = stream.server.addr();
    let message = format!("the stream at `{address}` did not take the message");
    assert_eq!(error.to_string(), message);

    // With its headers it is larger than the server's million.
    let result = send(&sink, of(1024 * 1024)).await;
    let message = format!(
        "the message, its headers included, is larger than the 1048576 bytes that `{address}` takes"
    );
    assert_error(result, Disposition::Reject, &message);
    send(&sink, of(1001)).await.unwrap();
    assert_eq!(stream.stored().await.len(), 2);
}
