//! Views of several handlers.

use bson::{DateTime, doc};
use changestream_core::Message;
use changestream_sinks::MongoSink;

use crate::{Scene, TestResult, all, assert_none, delete, deliver, insert, json, rejection};

#[tokio::test]
async fn a_message_sets_its_fields_and_leaves_the_others() -> TestResult {
    merges(&Scene::new().await?).await
}

pub(crate) async fn merges(scene: &Scene) -> TestResult {
    let view = scene.collection("merged");
    let sink = MongoSink::merge(&view);
    let at = DateTime::from_millis(5);
    for message in [
        doc! { "stock": 3, "at": at },
        doc! { "price": { "net": 1.5, "a.b": 1 } },
        doc! { "price": { "gross": 2.0 }, "_id": 1 },
        doc! {},
    ] {
        assert_none(&deliver(sink.clone(), [(insert(1), json(message))]).await);
    }
    assert_none(&deliver(sink.clone(), [(insert(2), json(doc! {}))]).await);
    let expected = doc! { "_id": 1, "stock": 3, "at": at, "price": { "gross": 2.0 } };
    assert_eq!(all(&view).await?, [expected, doc! { "_id": 2 }]);
    let letters = deliver(sink.clone(), [(insert(1), json(doc! { "price.net": 1 }))]).await;
    assert_eq!(
        rejection(&letters),
        "a field of the message is named `price.net`, and a dot makes a path; rename or nest it"
    );
    let gone = (delete(1), Message::new("gone", "text/plain"));
    assert_none(&deliver(sink, [gone]).await);
    assert_eq!(all(&view).await?, [doc! { "_id": 2 }]);
    Ok(())
}
