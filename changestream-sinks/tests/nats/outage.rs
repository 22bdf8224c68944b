//! Servers and networks that fail.

use std::{collections::BTreeMap, time::Duration};

use changestream_core::{
    HandlerError, HandlerSpec, MemoryDeadLetters, SinkSpec,
    testing::{TestRuntime, change, delivery, delivery_of},
};
use changestream_sinks::NatsSink;
use changestream_testkit::FaultProxy;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    DEADLINE, deliver, send, service,
    stream::{Stream, header},
    text,
};

const KEYS: i64 = 250;
const EACH: i64 = 40;
/// A sink that is down is tried once a minute at the least.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until the stream holds so many messages.
async fn stored(stream: &Stream, count: u64) {
    let begin = Instant::now();
    loop {
        let mut of_stream = stream.context.get_stream(Stream::NAME).await.unwrap();
        let messages = of_stream.info().await.unwrap().state.messages;
        if messages >= count {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{messages}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_killed_server_loses_nothing_and_keeps_the_order_of_each_key() {
    let stream = Stream::start().await;
    let sink = NatsSink::jetstream(stream.server.uri(), "shop.{collection}.{key}").unwrap();
    let letters = MemoryDeadLetters::default();
    let send = async |update: changestream_core::RawChange| {
        let id = update.document_key().expect("of a document");
        let n = update.update_description().expect("an update");
        let [id, n] = [id.get::<i64>("_id"), n.get("n")].map(|value| value.expect("an integer"));
        Ok::<_, HandlerError>(json!({ "id": id, "n": n }))
    };
    let spec = HandlerSpec::new("send", send)
        .collections(["orders"])
        .to(["nats"]);
    let runtime = TestRuntime::builder()
        .handlers([spec])
        .sink("nats", SinkSpec::from(sink))
        .concurrency(64)
        .dead_letter_store(letters.clone())
        .build()
        .unwrap();
    let all = (0..EACH).flat_map(|n| (0..KEYS).map(move |id| (id, n)));
    let update = |(id, n): (i64, i64)| change::update("orders").id(id).set("n", n);
    let all: Vec<_> = all.map(update).collect();
    let batches: Vec<_> = all.chunks(500).map(<[_]>::to_vec).collect();
    let kill = async {
        for count in [2_000, 6_000] {
            stored(&stream, count).await;
            stream.server.kill().await.unwrap();
            sleep(Duration::from_millis(300)).await;
            stream.server.restart().await.unwrap();
        }
    };
    tokio::join!(runtime.run(stream::iter(batches)), kill);

    assert!(letters.letters().is_empty());
    let messages = stream.stored().await;
    let mut last = BTreeMap::new();
    let mut ids = BTreeMap::new();
    let mut repeats = 0;
    for message in &messages {
        let payload: Value = serde_json::from_slice(&message.payload).unwrap();
        let [id, n] = ["id", "n"].map(|name| payload[name].as_i64().unwrap());
        let key = header(message, "Idempotency-Key").to_owned();
        if ids.insert(key, (id, n)).is_some_and(|same| same == (id, n)) {
            repeats += 1;
            continue;
        }
        let before = last.insert(id, n);
        assert_eq!(before.unwrap_or(-1) + 1, n, "document {id}");
    }
    assert_eq!(ids.len() as i64, KEYS * EACH);
    // The stream knows the ids of what it has stored, after a restart too.
    assert_eq!(repeats, 0);
}

#[tokio::test]
async fn a_message_whose_acknowledgement_was_lost_is_stored_once() {
    let stream = Stream::start().await;
    let proxy = FaultProxy::start(stream.server.addr()).await.unwrap();
    let url = stream.server.uri_through(proxy.addr());
    let sink = NatsSink::jetstream(url, "shop.orders").unwrap();
    let sink = service(sink.ack_timeout(Duration::from_millis(500)));
    send(&sink, delivery(text("m"))).await.unwrap();
    proxy.drop_replies().await.unwrap();
    let second = delivery_of(change::insert("orders").id(2), text("n"));
    send(&sink, second.clone()).await.unwrap_err();
    stored(&stream, 2).await;
    proxy.heal().await.unwrap();
    deliver(&sink, &second).await;
    let payloads: Vec<_> = stream.stored().await;
    let payloads: Vec<_> = payloads.iter().map(|one| &one.payload[..]).collect();
    assert_eq!(payloads, [b"m", b"n"]);
}

/// What waits for an answer of a connection that is gone is told so at once, and not when it runs out of time.
#[tokio::test]
async fn a_lost_connection_is_noticed_before_the_time_is_over() {
    let stream = Stream::start().await;
    let proxy = FaultProxy::start(stream.server.addr()).await.unwrap();
    let url = stream.server.uri_through(proxy.addr());
    for sink in [
        NatsSink::jetstream(&url, "shop.orders"),
        NatsSink::core(&url, "shop.orders"),
    ] {
        let sink = service(sink.unwrap().ack_timeout(10 * DEADLINE));
        send(&sink, delivery(text("m"))).await.unwrap();
        proxy.black_hole().await.unwrap();
        let cut = async {
            sleep(Duration::from_millis(200)).await;
            proxy.refuse().await;
            proxy.cut().await;
        };
        let (sent, ()) = tokio::join!(send(&sink, delivery(text("m"))), cut);
        let text = sent.unwrap_err().to_string();
        let message = format!(
            "the connection to `{}` was lost before the message was acknowledged",
            proxy.addr()
        );
        assert_eq!(text, message);
        let next = send(&sink, delivery(crate::text("m"))).await.unwrap_err();
        let message = format!("no connection to `{}` any more", proxy.addr());
        assert!(next.to_string().starts_with(&message), "{next}");
        proxy.heal().await.unwrap();
        deliver(&sink, &delivery(crate::text("m"))).await;
    }
}
