//! What a server says no to.

use std::time::Duration;

use async_nats::jetstream::stream;
use changestream_core::{
    Disposition,
    testing::{change, delivery, delivery_of},
};
use changestream_sinks::NatsSink;
use changestream_testkit::NatsServer;

use crate::{assert_error, chain, deliver, send, service, stream::Stream, text};

#[tokio::test]
async fn without_a_stream_a_message_waits_for_one() {
    let stream = Stream::without(NatsServer::builder()).await;
    let address = stream.server.addr();
    let sink = service(NatsSink::jetstream(stream.server.uri(), "shop.{collection}").unwrap());
    let delivery = delivery(text("m"));
    let message =
        format!("no stream takes the subject `shop.{{collection}}` at `{address}`; create one");
    let result = send(&sink, delivery.clone()).await;
    assert_error(result, Disposition::Retry, &message);
    let config = stream::Config {
        subjects: vec!["shop.*".into()],
        ..Stream::config()
    };
    stream.create(config).await;
    deliver(&sink, &delivery).await;
    stream.single().await;
}

#[tokio::test]
async fn another_stream_than_the_expected_one_takes_nothing() {
    let stream = Stream::start().await;
    let sink = NatsSink::jetstream(stream.server.uri(), "shop.orders").unwrap();
    let sink = service(sink.expect_stream("ORDERS").unwrap());
    let error = send(&sink, delivery(text("m")))
        .await
        .expect_err("another one");
    assert_eq!(error.disposition(), Disposition::Retry);
    let text = chain(&error);
    assert!(text.contains("expected stream does not match"), "{text}");
    assert!(stream.stored().await.is_empty());
}

#[tokio::test]
async fn a_full_stream_is_waited_for() {
    let stream = Stream::without(NatsServer::builder()).await;
    let config = stream::Config {
        subjects: vec!["shop.>".into()],
        max_messages: 1,
        discard: stream::DiscardPolicy::New,
        ..Stream::config()
    };
    stream.create(config).await;
    let sink = service(NatsSink::jetstream(stream.server.uri(), "shop.orders").unwrap());
    let of = |id: i64| delivery_of(change::insert("orders").id(id), text("m"));
    send(&sink, of(1)).await.unwrap();
    let error = send(&sink, of(2)).await.expect_err("full");
    assert_eq!(error.disposition(), Disposition::Retry);
    let text = chain(&error);
    assert!(text.contains("maximum messages exceeded"), "{text}");
    let kept = stream.context.get_stream(Stream::NAME).await.unwrap();
    kept.purge().await.unwrap();
    deliver(&sink, &of(2)).await;
}

/// A server with a stream, and a user with these rights.
async fn with_rights(rights: &str) -> (Stream, String) {
    let server = NatsServer::builder().config(format!(
        "authorization {{ users: [ {{ user: admin, password: admin }}, \
         {{ user: shop, password: s3cret, permissions: {rights} }} ] }}"
    ));
    let stream = Stream::of_user(server, "admin").await;
    let config = stream::Config {
        subjects: vec!["shop.>".into()],
        ..Stream::config()
    };
    stream.create(config).await;
    let url = format!("nats://shop:s3cret@{}", stream.server.addr());
    (stream, url)
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let second = Duration::from_secs(1);
    for rights in [
        "{ publish: \"audit.>\" }",
        "{ publish: \"shop.>\", subscribe: \"shop.>\" }",
    ] {
        let (stream, url) = with_rights(rights).await;
        let sink = NatsSink::jetstream(url, "shop.{collection}").unwrap();
        let sink = service(sink.ack_timeout(second));
        let message = format!(
            "`{}` refuses the sink's user a right: let it publish to `shop.{{collection}}`, and subscribe to `_INBOX.>`",
            stream.server.addr()
        );
        // The second one asks on a connection that was told before.
        for _ in 0..2 {
            let result = send(&sink, delivery(text("m"))).await;
            assert_error(result, Disposition::Retry, &message);
        }
    }
    let (stream, url) = with_rights("{ publish: \"shop.>\" }").await;
    let sink = NatsSink::core(url, "shop.{collection}").unwrap();
    let message = format!(
        "`{}` refuses the sink's user a right: let it publish to `shop.{{collection}}` and to `_INBOX.>`, and subscribe \
         to `_INBOX.>`",
        stream.server.addr()
    );
    let sink = service(sink.ack_timeout(second));
    let result = send(&sink, delivery(text("m"))).await;
    assert_error(result, Disposition::Retry, &message);
}

#[tokio::test]
async fn the_rights_that_are_named_are_enough() {
    let (stream, url) = with_rights("{ publish: \"shop.>\", subscribe: \"_INBOX.>\" }").await;
    let sink = service(NatsSink::jetstream(url, "shop.{collection}").unwrap());
    send(&sink, delivery(text("m"))).await.unwrap();
    stream.single().await;
    let rights = "{ publish: [\"shop.>\", \"_INBOX.>\"], subscribe: \"_INBOX.>\" }";
    let (_stream, url) = with_rights(rights).await;
    let sink = service(NatsSink::core(url, "shop.{collection}").unwrap());
    send(&sink, delivery(text("m"))).await.unwrap();
}
