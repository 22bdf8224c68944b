//! What arrives.

use std::{collections::BTreeMap, time::Duration};

use bson::doc;
use changestream_core::{
    Delivery, Disposition, Message,
    testing::{change, delivery_of},
};
use futures::StreamExt as _;
use redis::Value;
use tokio::time::timeout;

use crate::{DEADLINE, Redis, assert_error, of, send, service};

/// No text, and more than one line.
const BYTES: &[u8] = b"\xff\0{\r\n}$5\r\n";

fn deleted(id: i32) -> Delivery {
    delivery_of(
        change::delete("products").id(id),
        Message::new("gone", "text/plain"),
    )
}

/// Of an entry of a stream.
type Fields = Vec<(String, Vec<u8>)>;

#[tokio::test]
async fn keys_are_removed() {
    let redis = Redis::start().await;
    let _: () = redis
        .ask("MSET product:7 a category:toys b category:books c category: d other e")
        .await;
    let sink = redis.sink().unlink([
        "product:{document_key._id}",
        "category:{full_document.category | pre_image.category}",
        "not:there",
    ]);
    let sink = service(sink.unwrap());
    let toy = doc! { "_id": 7, "category": "toys" };
    let message = Message::new("m", "text/plain");
    let change = change::insert("products").id(7).full_document(&toy);
    send(&sink, delivery_of(change, message.clone()))
        .await
        .unwrap();
    assert_eq!(redis.keys().await, ["category:", "category:books", "other"]);

    let nameless = change::insert("products").id(8).full_document(&doc! {});
    let result = send(&sink, delivery_of(nameless, message)).await;
    assert_error(
        result,
        Disposition::Reject,
        "the template `category:{full_document.category | pre_image.category}`: the event has no \
         `full_document.category` and no `pre_image.category`",
    );
    assert_eq!(redis.keys().await, ["category:", "category:books", "other"]);
}

#[tokio::test]
async fn a_payload_names_the_keys() {
    let redis = Redis::start().await;
    let _: () = redis.ask("MSET a 1 b 2 c:1 3 c:2 4 c*2 5 d 6").await;
    let sink = service(redis.sink().unlink_payload());
    for payload in [
        r#"{"keys": ["a", "not there"], "patterns": []}"#,
        r#"{"keys": ["b"]}"#,
        r#"{"patterns": ["c:*", "c\\*?"]}"#,
        r#"{"keys": []}"#,
    ] {
        send(&sink, of(1, payload)).await.unwrap();
    }
    assert_eq!(redis.keys().await, ["d"]);
    let not_it = "the payload is not `{\"keys\": [..], \"patterns\": [..]}`, lists of strings";
    let empty = "one of the payload's `keys` or `patterns` is empty";
    for (payload, message) in [
        ("", not_it),
        (r#"["d"]"#, not_it),
        (r#"{"keys": "d"}"#, not_it),
        (r#"{"keys": ["d", 1]}"#, not_it),
        (r#"{"keys": ["d"], "pattern": "*"}"#, not_it),
        (r#"{"keys": ["d", ""]}"#, empty),
        (r#"{"keys": ["d"], "patterns": [""]}"#, empty),
        ("{}", "the payload has neither `keys` nor `patterns`"),
    ] {
        assert_error(
            send(&sink, of(1, payload)).await,
            Disposition::Reject,
            message,
        );
    }
    assert_eq!(redis.keys().await, ["d"]);
}

#[tokio::test]
async fn subscribers_hear_the_payload() {
    let redis = Redis::start().await;
    let client = redis::Client::open(redis.server.uri()).unwrap();
    let mut subscription = client.get_async_pubsub().await.unwrap();
    subscription.subscribe("products:insert").await.unwrap();
    let sink = service(redis.sink().publish("{collection}:{operation}").unwrap());
    let message = Message::new(BYTES, "application/octet-stream");
    send(
        &sink,
        delivery_of(change::insert("products").id(1), message),
    )
    .await
    .unwrap();
    let heard = timeout(DEADLINE, subscription.on_message().next()).await;
    assert_eq!(heard.unwrap().unwrap().get_payload_bytes(), BYTES);
}

#[tokio::test]
async fn an_entry_of_a_stream_has_all_of_a_message() {
    let redis = Redis::start().await;
    let sink = service(redis.sink().stream("stream:{collection}").unwrap());
    let message = Message::new(BYTES, "application/octet-stream")
        .key("k")
        .header("X-Priority", "high")
        .header("payload", "not it");
    let delivery = delivery_of(change::insert("products").id(1), message);
    // Twice, as after a retry.
    for _ in 0..2 {
        send(&sink, delivery.clone()).await.unwrap();
    }
    let entries: Vec<(String, Fields)> = redis.ask("XRANGE stream:products - +").await;
    let (id, event_id) = (delivery.id(), delivery.event_id().to_string());
    let expected = [
        ("id", id.as_bytes()),
        ("event_id", event_id.as_bytes()),
        ("key", b"k"),
        ("content_type", b"application/octet-stream"),
        ("payload", BYTES),
        ("header:X-Priority", b"high"),
        ("header:payload", b"not it"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_vec()));
    assert_eq!(entries.len(), 2);
    assert!(
        entries.iter().all(|(_, fields)| *fields == expected),
        "{entries:?}"
    );
}

#[tokio::test]
async fn a_stream_is_kept_short() {
    let redis = Redis::start().await;
    let sink = redis.sink().max_len(10).unwrap().stream("s").unwrap();
    let sink = service(sink);
    for id in 0..500 {
        send(&sink, of(id, "1")).await.unwrap();
    }
    let len: usize = redis.ask("XLEN s").await;
    assert!((10..=110).contains(&len), "{len}");
}

#[tokio::test]
async fn a_key_holds_the_last_payload_until_the_document_is_deleted() {
    let redis = Redis::start().await;
    let sink = service(redis.sink().set("p:{document_key._id}").unwrap());
    let message = Message::new(BYTES, "application/octet-stream");
    send(&sink, of(1, "first")).await.unwrap();
    send(
        &sink,
        delivery_of(change::update("products").id(1), message),
    )
    .await
    .unwrap();
    assert_eq!(redis.ask::<Vec<u8>>("GET p:1").await, BYTES);
    assert_eq!(redis.ask::<i64>("PTTL p:1").await, -1);
    send(&sink, deleted(1)).await.unwrap();
    assert_eq!(redis.keys().await, [""; 0]);
}

#[tokio::test]
async fn a_hash_holds_the_fields_until_the_document_is_deleted() {
    let redis = Redis::start().await;
    let sink = service(redis.sink().hash("h:{document_key._id}").unwrap());
    let payload = r#"{"name": "a \"b\" é", "count": 12345678901234567890, "price": 1.10, "ok": true, "none": null,
                      "nested": {"b": [1, null],  "a": "x"}, "": ""}"#;
    send(&sink, of(1, r#"{"none": 1, "stays": "here"}"#))
        .await
        .unwrap();
    send(&sink, of(1, payload)).await.unwrap();
    let fields: BTreeMap<String, String> = redis.ask("HGETALL h:1").await;
    let expected = [
        ("", ""),
        ("count", "12345678901234567890"),
        ("name", "a \"b\" é"),
        ("nested", r#"{"b": [1, null],  "a": "x"}"#),
        ("ok", "true"),
        ("price", "1.10"),
        ("stays", "here"),
    ];
    assert_eq!(
        fields,
        expected
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    );
    for payload in [
        "",
        "[]",
        "{}",
        "7",
        r#"{"a": "s3cret" "#,
        r#"{"a": "\ud800"}"#,
    ] {
        assert_error(
            send(&sink, of(1, payload)).await,
            Disposition::Reject,
            "the payload is no JSON object with fields, which `hash` writes",
        );
    }
    send(&sink, of(1, r#"{"stays": null}"#)).await.unwrap();
    assert_eq!(redis.ask::<usize>("HLEN h:1").await, expected.len() - 1);
    send(&sink, deleted(1)).await.unwrap();
    assert_eq!(redis.keys().await, [""; 0]);
}

#[tokio::test]
async fn what_is_written_lasts_as_long_as_it_shall() {
    let redis = Redis::start().await;
    let sink = redis.sink().set("s").unwrap().hash("h").unwrap();
    let sink = service(sink.ttl(Duration::from_millis(12_345)).unwrap());
    send(&sink, of(1, r#"{"a": 1}"#)).await.unwrap();
    for key in ["s", "h"] {
        let left: i64 = redis.ask(&format!("PTTL {key}")).await;
        assert!((1..=12_345).contains(&left), "{key}: {left}");
    }
}

/// What the server is sent by the time that it is sent the end.
async fn sent(redis: &Redis, sink: changestream_sinks::RedisSink) -> Vec<String> {
    let client = redis::Client::open(redis.server.uri()).unwrap();
    let mut monitor = client.get_async_monitor().await.unwrap();
    let mut lines = monitor.on_message::<String>();
    send(&service(sink), of(1, r#"{"a": 1}"#)).await.unwrap();
    let _: Value = redis.ask("ECHO end").await;
    let mut commands = Vec::new();
    loop {
        let line = timeout(DEADLINE, lines.next()).await.unwrap().unwrap();
        let command = line.split_once("] ").unwrap().1.replace('"', "");
        match command.as_str() {
            "ECHO end" => return commands,
            command
                if ["CLIENT", "CLUSTER", "HELLO"]
                    .iter()
                    .any(|own| command.starts_with(own)) => {}
            _ => commands.push(command),
        }
    }
}

#[tokio::test]
async fn all_is_done_in_the_order_in_which_it_was_told_or_at_once() {
    let redis = Redis::start().await;
    let sink = redis.sink().publish("c").unwrap().set("s").unwrap();
    let sink = sink.unlink(["u", "v"]).unwrap().hash("h").unwrap();
    let commands = [
        r"PUBLISH c {\a\: 1}",
        r"SET s {\a\: 1}",
        "UNLINK u",
        "UNLINK v",
        "HSET h a 1",
    ];
    assert_eq!(sent(&redis, sink.clone()).await, commands);
    let atomic = sent(&redis, sink.atomic()).await;
    assert_eq!(atomic, [&["MULTI"], &commands[..], &["EXEC"]].concat());
    let one = redis.sink().atomic().unlink(["u"]).unwrap();
    assert_eq!(sent(&redis, one).await, ["UNLINK u"]);
}
