//! Views.

use bson::{Bson, doc, oid::ObjectId, rawdoc};
use changestream_core::{
    HandlerError, HandlerSpec, Message, RawChange,
    testing::{TestRuntime, change},
};
use changestream_sinks::MongoSink;

use crate::{Scene, TestResult, all, assert_none, delete, deliver, insert, json, rejection};

fn empty() -> Message {
    Message::new("", "text/plain")
}

#[tokio::test]
async fn the_view_follows_its_documents_by_their_ids_of_any_type() -> TestResult {
    follows(&Scene::new().await?).await
}

pub(crate) async fn follows(scene: &Scene) -> TestResult {
    let ids: [Bson; 5] = [
        1.into(),
        2_i64.into(),
        "three".into(),
        ObjectId::new().into(),
        doc! { "shop": 1_i64, "number": 5 }.into(),
    ];
    for (n, id) in ids.into_iter().enumerate() {
        let view = scene.collection(&format!("view_{n}"));
        let sink = MongoSink::upsert(&view);
        let stored = (insert(id.clone()), json(doc! { "n": 1, "gone": true }));
        let replaced = (insert(id.clone()), json(doc! { "_id": &id, "n": 2 }));
        let gone = (delete(id.clone()), Message::new("gone", "text/plain"));
        for message in [stored, replaced.clone(), replaced] {
            assert_none(&deliver(sink.clone(), [message]).await);
        }
        assert_eq!(all(&view).await?, [doc! { "_id": &id, "n": 2 }]);
        for _ in 0..2 {
            assert_none(&deliver(sink.clone(), [gone.clone()]).await);
            assert!(all(&view).await?.is_empty());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_messages_own_id_or_the_templates_names_the_document() -> TestResult {
    let scene = Scene::new().await?;
    let view = scene.collection("view");
    let customer = ObjectId::new();
    let message = json(doc! { "_id": customer, "n": 1 });
    let template = "{document_key._id}:{full_document.lang | \"none\"}";
    let by_template = MongoSink::upsert(&view).id(template)?;
    let french = change::insert("orders")
        .id(7)
        .full_document(&doc! { "lang": "fr" });
    let by_event = json(doc! { "_id": Bson::Null, "n": 3 });
    for (sink, change, message) in [
        (MongoSink::upsert(&view), insert(5), message.clone()),
        (by_template, french.build(), message.clone()),
        (MongoSink::upsert(&view), insert(6), by_event),
    ] {
        assert_none(&deliver(sink, [(change, message)]).await);
    }
    let expected = [
        doc! { "_id": 6, "n": 3 },
        doc! { "_id": "7:fr", "n": 1 },
        doc! { "_id": customer, "n": 1 },
    ];
    assert_eq!(all(&view).await?, expected);
    let gone = (delete(5), json(doc! { "_id": customer }));
    assert_none(&deliver(MongoSink::upsert(&view), [gone]).await);
    assert_eq!(all(&view).await?, expected[..2]);
    Ok(())
}

#[tokio::test]
async fn what_was_deleted_is_kept_where_that_is_wanted_and_an_empty_message_deletes() -> TestResult
{
    let scene = Scene::new().await?;
    let view = scene.collection("view");
    let sink = MongoSink::upsert(&view).keep_deleted();
    let mark = json(doc! { "deleted": true });
    assert_none(&deliver(sink.clone(), [(delete(1), mark)]).await);
    assert_eq!(all(&view).await?, [doc! { "_id": 1, "deleted": true }]);
    assert_none(&deliver(sink, [(insert(1), empty())]).await);
    assert!(all(&view).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn no_message_reaches_a_document_that_is_not_its_own() -> TestResult {
    injections(&Scene::new().await?).await
}

pub(crate) async fn injections(scene: &Scene) -> TestResult {
    let view = scene.collection("injections");
    let other = doc! { "_id": "other", "n": 1 };
    view.insert_one(&other).await?;
    let regex = r#"{"_id": {"$regularExpression": {"pattern": "o", "options": ""}}}"#;
    for (text, expected) in [
        (
            r#"{"_id": {"$gt": ""}, "n": 2}"#,
            "the `_id` of the message is none",
        ),
        (
            r#"{"_id": ["other"], "n": 2}"#,
            "the `_id` of the message is none",
        ),
        (regex, "the `_id` of the message is none"),
        (r#"{"$set": {"n": 2}}"#, "is named `$set`"),
        (r#"{"n": 1, "$where": "true"}"#, "is named `$where`"),
        (r#"{"_changestream": {}}"#, "is named `_changestream`"),
    ] {
        for sink in [MongoSink::upsert(&view), MongoSink::merge(&view)] {
            for change in [insert(1), delete(1)] {
                let is_about_id = expected.starts_with("the `_id`");
                if !is_about_id && change.operation().as_str() == "delete" {
                    continue;
                }
                let message = Message::new(text, "application/json");
                let error = rejection(&deliver(sink.clone(), [(change, message)]).await);
                assert!(error.contains(expected), "{text}: {error}");
            }
        }
        assert_eq!(all(&view).await?, std::slice::from_ref(&other), "{text}");
    }
    // In `$literal` nothing is an expression.
    let sink = MongoSink::upsert(&view).versioned()?;
    let message = (
        insert("mine"),
        json(doc! { "field": "$_id", "root": "$$ROOT" }),
    );
    assert_none(&deliver(sink, [message]).await);
    let found = view.find_one(doc! { "_id": "mine" }).await?.ok_or("none")?;
    assert_eq!(found.get_str("field")?, "$_id");
    assert_eq!(found.get_str("root")?, "$$ROOT");
    Ok(())
}

/// A document of a snapshot as the runtime has it: of a time, and no token.
fn snapshot() -> TestResult<RawChange> {
    let built = change::snapshot("orders").id(1).build();
    let mut event = rawdoc! { "_id": { "snapshot": "s", "_id": 1 } };
    for (name, value) in built.as_raw().iter().flatten() {
        if name.as_str() != "_id" {
            event.append(name, value);
        }
    }
    Ok(RawChange::new(event.into_bytes())?)
}

#[tokio::test]
async fn no_message_takes_the_place_of_a_later_one() -> TestResult {
    versions(&Scene::new().await?).await
}

pub(crate) async fn versions(scene: &Scene) -> TestResult {
    let view = scene.collection("versions");
    let sink = MongoSink::upsert(&view).versioned()?;
    view.insert_one(doc! { "_id": 1, "n": "of no event" })
        .await?;
    let of_time = snapshot()?;
    let [first, second, third] = [(); 3].map(|()| insert(1));
    let gone = delete(1);
    let send = async |change: &RawChange, n: i32| {
        let letters = deliver(sink.clone(), [(change.clone(), json(doc! { "n": n }))]).await;
        assert_none(&letters);
        let found = all(&view).await?;
        TestResult::Ok(found.first().map(|found| found.get_i32("n")).transpose()?)
    };
    assert_eq!(send(&second, 2).await?, Some(2));
    assert_eq!(send(&first, 1).await?, Some(2), "an earlier one");
    assert_eq!(send(&second, 22).await?, Some(22), "the same one");
    assert_eq!(send(&third, 3).await?, Some(3));
    assert_eq!(send(&gone, 0).await?, None);
    assert_eq!(send(&of_time, 4).await?, Some(4));
    assert_eq!(send(&first, 1).await?, Some(1));
    assert_eq!(send(&of_time, 4).await?, Some(1), "an earlier snapshot");
    let (before, after) = (delete(1), insert(1));
    assert_eq!(send(&after, 5).await?, Some(5));
    assert_eq!(send(&before, 0).await?, Some(5), "an earlier delete");
    Ok(())
}

#[tokio::test]
async fn many_messages_go_into_one_command_and_those_of_one_document_after_each_other() -> TestResult
{
    let scene = Scene::new().await?;
    let view = scene.collection("view");
    let messages: Vec<_> = (0..500)
        .map(|n| (insert(n), json(doc! { "n": n })))
        .collect();
    assert_none(&deliver(MongoSink::upsert(&view), messages).await);
    assert_eq!(all(&view).await?.len(), 500);
    let writes = scene.writes.load(std::sync::atomic::Ordering::SeqCst);
    assert!(writes < 50, "{writes} commands");

    // Two handlers of each event, whose messages are of one document.
    let merged = scene.collection("merged");
    let handler = |name: &'static str| {
        let send = move || async move { Ok::<_, HandlerError>(doc! { name: 1 }) };
        HandlerSpec::new(name, send).to(["sink"])
    };
    TestRuntime::builder()
        .handlers(["a", "b", "c"].map(handler))
        .sink("sink", MongoSink::merge(&merged))
        .concurrency(64)
        .build()?
        .run(futures::stream::iter([(0..200)
            .map(insert)
            .collect::<Vec<_>>()]))
        .await;
    let found = all(&merged).await?;
    assert_eq!(found.len(), 200);
    for document in found {
        let names = ["a", "b", "c"].map(|name| document.contains_key(name));
        assert_eq!(names, [true; 3], "{document}");
    }
    Ok(())
}
