//! Where messages go.

use bson::doc;
use changestream_core::{
    Disposition,
    testing::{change, delivery_of},
};
use changestream_sinks::NatsSink;

use crate::{assert_error, send, service, stream::Stream, text};

fn of(name: &str) -> changestream_core::Delivery {
    let document = doc! { "_id": 7, "name": name };
    let change = change::insert("orders").id(7).full_document(&document);
    delivery_of(change, text("m"))
}

#[tokio::test]
async fn the_subject_is_made_of_values() {
    let stream = Stream::start().await;
    let template = "shop.{database}.{full_document.name | \"none\"}-{document_key._id}";
    let sink = service(NatsSink::jetstream(stream.server.uri(), template).unwrap());
    send(&sink, of("Zoë-$1")).await.unwrap();
    let stored = stream.single().await;
    assert_eq!(stored.subject.as_str(), "shop.test.Zoë-$1-7");
}

#[tokio::test]
async fn a_value_leads_to_no_other_subject() {
    let stream = Stream::start().await;
    let template = "shop.{full_document.name}.new";
    let sink = service(NatsSink::jetstream(stream.server.uri(), template).unwrap());
    let refused = "the template `shop.{full_document.name}.new`: the value of `full_document.name` is refused: a part of \
                   a subject holds no `.`, `*`, `>`, white space or control character";
    for name in [
        "a.b",
        ".",
        "*",
        ">",
        "a b",
        "a\r\nPUB shop.x 0",
        "a\tb",
        "a\0",
        "a\u{a0}b",
        "a\u{2028}b",
        "a\u{85}b",
    ] {
        let result = send(&sink, of(name)).await;
        assert_error(result, Disposition::Reject, refused);
    }
    let missing =
        "the template `shop.{full_document.name}.new`: the event has no `full_document.name`";
    assert_error(send(&sink, of("")).await, Disposition::Reject, missing);
    assert!(stream.stored().await.is_empty());
}

#[tokio::test]
async fn a_value_leads_to_nothing_of_the_server() {
    let stream = Stream::start().await;
    let document = doc! { "a": "$JS", "b": "API", "c": "STREAM", "d": "DELETE", "e": "SHOP", "inbox": "INBOX" };
    let change = change::insert("orders").id(7).full_document(&document);
    let delivery = delivery_of(change, text("m"));
    for template in [
        "{full_document.a}.{full_document.b}.{full_document.c}.{full_document.d}.{full_document.e}",
        "_{full_document.inbox}.{full_document.e}",
    ] {
        let sink = service(NatsSink::jetstream(stream.server.uri(), template).unwrap());
        let message = format!(
            "the template `{template}`: the subject begins with what the server keeps for itself, `$` or `_INBOX.`"
        );
        let result = send(&sink, delivery.clone()).await;
        assert_error(result, Disposition::Reject, &message);
    }
    assert!(stream.stored().await.is_empty());
}

#[tokio::test]
async fn a_subject_is_not_too_long_for_the_protocol() {
    let stream = Stream::start().await;
    let template = "shop.{full_document.name}";
    let sink = service(NatsSink::jetstream(stream.server.uri(), template).unwrap());
    send(&sink, of(&"x".repeat(1019))).await.unwrap();
    let message =
        "the template `shop.{full_document.name}`: the subject has 1025 bytes; it may have 1024";
    let result = send(&sink, of(&"x".repeat(1020))).await;
    assert_error(result, Disposition::Reject, message);
    stream.single().await;
}
