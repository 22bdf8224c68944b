//! Logs.

use bson::{Bson, DateTime, doc, oid::ObjectId};
use changestream_sinks::MongoSink;

use crate::{Scene, TestResult, all, assert_none, delete, deliver, insert, json, rejection};

#[tokio::test]
async fn a_message_is_inserted_with_the_types_that_it_has() -> TestResult {
    types(&Scene::new().await?).await
}

pub(crate) async fn types(scene: &Scene) -> TestResult {
    let log = scene.collection("types");
    let message = doc! {
        "z": "last", "order": ObjectId::new(), "at": DateTime::from_millis(1), "n": 7, "large": 1_i64 << 40, "rate": 1.0,
        "total": Bson::Decimal128("9.990".parse()?), "lines": [{ "sku": "A-1", "count": 2 }, Bson::Null],
        "payload": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 255] },
        "a.b": { "c.d": 1 },
    };
    let change = insert(1);
    let id = format!("{}/send/0", change.event_id());
    assert_none(&deliver(MongoSink::insert(&log), [(change, json(message.clone()))]).await);
    let mut expected = doc! { "_id": id };
    expected.extend(message);
    let found = all(&log).await?;
    assert_eq!(found, [expected.clone()]);
    assert!(found[0].keys().eq(expected.keys()), "the fields' order");
    Ok(())
}

#[tokio::test]
async fn a_delivery_that_comes_again_is_there_once() -> TestResult {
    repeats(&Scene::new().await?).await
}

pub(crate) async fn repeats(scene: &Scene) -> TestResult {
    let of_delivery = scene.collection("of_delivery");
    let of_message = scene.collection("of_message");
    let of_template = scene.collection("of_template");
    let messages: Vec<_> = (0..30)
        .map(|n| (insert(n), json(doc! { "_id": n, "n": n })))
        .collect();
    let anonymous: Vec<_> = messages
        .iter()
        .map(|(change, _)| (change.clone(), json(doc! { "n": 1 })))
        .collect();
    for _ in 0..2 {
        let sink = MongoSink::insert(&of_delivery);
        assert_none(&deliver(sink, anonymous.clone()).await);
        let sink = MongoSink::insert(&of_message);
        assert_none(&deliver(sink, messages.clone()).await);
        let sink = MongoSink::insert(&of_template).id("{collection}:{document_key._id}")?;
        assert_none(&deliver(sink, messages.clone()).await);
    }
    assert_eq!(all(&of_delivery).await?.len(), 30);
    assert_eq!(all(&of_message).await?.len(), 30);
    let found = all(&of_template).await?;
    assert_eq!(found.len(), 30);
    let delivery = format!("{}/send/0", messages[0].0.event_id());
    let own = doc! { "delivery": delivery };
    assert_eq!(
        found[0],
        doc! { "_id": "orders:0", "n": 0, "_changestream": own }
    );
    Ok(())
}

#[tokio::test]
async fn an_id_that_another_delivery_has_is_a_rejection() -> TestResult {
    strangers(&Scene::new().await?).await
}

pub(crate) async fn strangers(scene: &Scene) -> TestResult {
    let log = scene.collection("strangers");
    let sink = MongoSink::insert(&log);
    let message = || json(doc! { "_id": "secret", "n": 1 });
    let first = (insert(1), message());
    assert_none(&deliver(sink.clone(), [first.clone()]).await);
    // The same content, of another event; side by side with the first one again.
    let letters = deliver(sink.clone(), [first, (insert(2), message())]).await;
    let error = rejection(&letters);
    let expected = format!(
        "`{}` does not take the document: another one has its `_id`",
        log.namespace()
    );
    assert_eq!(error, expected);
    // Both of one batch.
    let pair = [3, 4].map(|id| (insert(id), json(doc! { "_id": "both" })));
    assert_eq!(rejection(&deliver(sink, pair).await), expected);
    assert_eq!(all(&log).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_delete_is_an_entry_like_any_other() -> TestResult {
    let scene = Scene::new().await?;
    let log = scene.collection("log");
    let messages = [
        (insert(1), json(doc! { "what": "stored" })),
        (delete(1), json(doc! { "what": "deleted" })),
    ];
    assert_none(&deliver(MongoSink::insert(&log), messages).await);
    assert_eq!(all(&log).await?.len(), 2);
    Ok(())
}
