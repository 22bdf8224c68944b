//! What a record consists of, as a consumer reads it.

use std::collections::BTreeSet;

use changestream_core::{
    Disposition::Reject,
    Message,
    testing::{change, delivery, delivery_of},
};
use changestream_sinks::KafkaSink;
use changestream_testkit::TestKafka;
use futures::future::join_all;

use crate::{
    assert_error, of,
    reader::{Reader, create_topic},
    send, service,
};

async fn brokers() -> TestKafka {
    TestKafka::from_env_or_start().await.expect("a broker")
}

fn headers(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    of.iter().map(owned).collect()
}

#[tokio::test]
async fn a_record_is_the_message_and_what_it_is_about() {
    let kafka = brokers().await;
    let topic = kafka.unique_topic("record");
    create_topic(kafka.bootstrap(), &topic, 1).await;
    let sink = KafkaSink::new(kafka.bootstrap(), &topic)
        .and_then(|sink| sink.header("team", "shop"))
        .and_then(|sink| sink.header("stage", "test"))
        .unwrap();
    let message = Message::new(vec![0, 255, b'x'], "application/octet-stream")
        .key("Café")
        .header("stage", "prod")
        .header("trace", "1\n2");
    let first = delivery_of(change::insert("orders").id(1), message);
    let second = delivery(Message::new("", "text/plain").header("correlation-id", "c"));
    let service = service(sink);
    send(&service, first.clone()).await.unwrap();
    send(&service, second.clone()).await.unwrap();

    let read = Reader::start(kafka.bootstrap(), &topic, 1).read(2).await;
    assert_eq!(read[0].key.as_deref(), Some("Café"));
    assert_eq!(read[0].payload.as_deref(), Some(&[0, 255, b'x'][..]));
    let event_id = first.event_id().to_string();
    let expected = [
        ("id", &*first.id()),
        ("event-id", &*event_id),
        ("source", first.runtime()),
        ("content-type", "application/octet-stream"),
        ("correlation-id", &*event_id),
        ("team", "shop"),
        ("stage", "prod"),
        ("trace", "1\n2"),
    ];
    assert_eq!(read[0].headers, headers(&expected));
    assert_eq!(read[1].key.as_deref(), second.message().get_key());
    assert_eq!(read[1].payload.as_deref().unwrap_or_default(), b"");
    assert_eq!(read[1].header("correlation-id"), "c");
    assert_eq!(read[1].header("id"), second.id());
}

#[tokio::test]
async fn the_source_may_be_named() {
    let kafka = brokers().await;
    let topic = kafka.unique_topic("source");
    create_topic(kafka.bootstrap(), &topic, 1).await;
    let sink = KafkaSink::new(kafka.bootstrap(), &topic).unwrap();
    send(&service(sink.source("shop")), of(1, "1"))
        .await
        .unwrap();
    let read = Reader::start(kafka.bootstrap(), &topic, 1).read(1).await;
    assert_eq!(read[0].header("source"), "shop");
}

#[tokio::test]
async fn a_key_has_the_partition_that_java_clients_give_it() {
    let kafka = brokers().await;
    let topic = kafka.unique_topic("partitions");
    create_topic(kafka.bootstrap(), &topic, 4).await;
    let service = service(KafkaSink::new(kafka.bootstrap(), &topic).unwrap());
    let all = (0..40).map(|id| send(&service, of(id, "m")));
    for sent in join_all(all).await {
        sent.unwrap();
    }
    let read = Reader::start(kafka.bootstrap(), &topic, 4).read(40).await;
    for record in &read {
        let key = record.key.as_deref().unwrap();
        assert_eq!(record.partition, murmur2(key.as_bytes()) % 4, "{key}");
    }
    let partitions: BTreeSet<_> = read.iter().map(|record| record.partition).collect();
    assert_eq!(partitions.len(), 4);
}

/// `org.apache.kafka.common.utils.Utils.toPositive(murmur2(key))`, written out.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * at);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    ((h ^ (h >> 15)) & 0x7fff_ffff) as i32
}

#[test]
fn the_partitions_are_those_of_kafkas_own_tests() {
    // `UtilsTest.testMurmur2`.
    for (key, hash) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
    ] {
        assert_eq!(murmur2(key.as_bytes()), hash & 0x7fff_ffff, "{key}");
    }
}

#[tokio::test]
async fn the_topic_is_made_of_the_event() {
    let kafka = brokers().await;
    let suffix = kafka.unique_topic("template");
    let sink =
        |template: &str| KafkaSink::new(kafka.bootstrap(), format!("{template}.{suffix}")).unwrap();
    create_topic(kafka.bootstrap(), &format!("orders.{suffix}"), 1).await;
    send(&service(sink("{collection}")), of(1, "1"))
        .await
        .unwrap();
    let read = Reader::start(kafka.bootstrap(), &format!("orders.{suffix}"), 1)
        .read(1)
        .await;
    assert_eq!(read[0].text(), "1");

    let name = |name: &str| {
        let document = bson::doc! { "_id": 1, "name": name };
        let message = Message::new("m", "text/plain");
        delivery_of(
            change::insert("orders").id(1).full_document(&document),
            message,
        )
    };
    let by_name = service(sink("{full_document.name}"));
    let template = format!("{{full_document.name}}.{suffix}");
    assert_error(
        send(&by_name, name("s3cret/../x")).await,
        Reject,
        &format!(
            "the template `{template}`: the value of `full_document.name` is refused: the name of a Kafka topic \
             consists of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`"
        ),
    );
    assert_error(
        send(&by_name, name(&"x".repeat(240))).await,
        Reject,
        &format!("the topic that `{template}` gives for the event is longer than 249 characters"),
    );
    assert_error(
        send(&by_name, of(1, "1")).await,
        Reject,
        &format!("the template `{template}`: the event has no `full_document.name`"),
    );
}

#[tokio::test]
async fn a_message_with_a_header_of_the_sinks_is_rejected() {
    let service = service(KafkaSink::new("localhost:1", "orders").unwrap());
    for (name, message) in [
        (
            "Event-ID",
            "the Kafka sink sets the header `Event-ID` itself; remove it",
        ),
        ("", r#""" is not a valid name of a Kafka header"#),
        ("a\0b", r#""a\0b" is not a valid name of a Kafka header"#),
    ] {
        let delivery = delivery(Message::new("m", "text/plain").header(name, "s3cret"));
        assert_error(send(&service, delivery).await, Reject, message);
    }
}
