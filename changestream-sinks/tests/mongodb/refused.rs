//! What the server does not take.

use std::sync::atomic::Ordering::SeqCst;

use bson::{Document, doc};
use changestream_core::Message;
use changestream_sinks::MongoSink;
use mongodb::IndexModel;

use crate::{Scene, TestResult, all, assert_none, deliver, insert, json, rejection};

#[tokio::test]
async fn what_is_refused_of_a_batch_is_rejected_alone() -> TestResult {
    alone(&Scene::new().await?).await
}

pub(crate) async fn alone(scene: &Scene) -> TestResult {
    let validator = doc! { "secret": { "$not": { "$type": "array" } } };
    let view = scene.collection("checked");
    scene
        .database
        .create_collection("checked")
        .validator(validator)
        .await?;
    let unique = mongodb::options::IndexOptions::builder()
        .unique(true)
        .build();
    let index = IndexModel::builder()
        .keys(doc! { "secret": 1 })
        .options(unique);
    view.create_index(index.build()).await?;
    view.insert_one(doc! { "_id": -1, "secret": "taken" })
        .await?;
    for (sink, name) in [
        (MongoSink::insert(&view), "insert"),
        (MongoSink::upsert(&view), "upsert"),
        (MongoSink::upsert(&view).versioned()?, "versioned"),
        (MongoSink::merge(&view), "merge"),
    ] {
        let before = scene.writes.load(SeqCst);
        let messages = (0..60).map(|n| {
            let secret = match n {
                30 => doc! { "secret": ["taken"] },
                31 => doc! { "secret": "taken" },
                n => doc! { "secret": format!("{name}-{n}") },
            };
            (insert(n), json(secret))
        });
        let letters = deliver(sink, messages).await;
        let mut errors: Vec<_> = letters
            .iter()
            .map(|letter| (letter.error().join(": "), letter.attempts()))
            .collect();
        errors.sort();
        let namespace = view.namespace();
        let expected = [
            "DocumentValidationFailure (121)",
            "another one has its `secret`",
        ]
        .map(|text| {
            (
                format!("`{namespace}` does not take the document: {text}"),
                1,
            )
        });
        assert_eq!(errors, expected, "{name}");
        let written = view
            .count_documents(doc! { "secret": { "$regex": format!("^{name}-") } })
            .await?;
        assert_eq!(written, 58, "{name}");
        let commands = scene.writes.load(SeqCst) - before;
        assert!(commands < 20, "{name}: {commands} commands");
    }
    Ok(())
}

#[tokio::test]
async fn large_documents_go_in_several_commands_and_one_that_is_too_large_is_rejected() -> TestResult
{
    sizes(&Scene::new().await?).await
}

pub(crate) async fn sizes(scene: &Scene) -> TestResult {
    const MB: usize = 1 << 20;
    let text = |size: usize| {
        let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(size));
        Message::new(text, "application/json")
    };
    let sinks = |view: &_| {
        let versioned = MongoSink::upsert(view).versioned()?;
        Ok::<_, changestream_core::Error>([
            MongoSink::insert(view),
            MongoSink::upsert(view),
            versioned,
            MongoSink::merge(view),
        ])
    };
    for n in 0..4 {
        let view = scene.collection(&format!("large_{n}"));
        let sink = sinks(&view)?[n].clone();
        let messages = (0..4).map(|n| (insert(n), text(6 * MB)));
        assert_none(&deliver(sink.clone(), messages).await);
        assert_eq!(all(&view).await?.len(), 4, "{sink:?}");

        // The largest that there can be, but for what the sink adds.
        let largest = (insert(8), text(16 * MB - 512));
        let too_large = (insert(9), text(16 * MB - 10));
        let far_too_large = (insert(10), text(20 * MB));
        assert_none(&deliver(sink.clone(), [largest]).await);
        let small = (insert(11), text(1));
        for too_large in [too_large, far_too_large] {
            let error = rejection(&deliver(sink.clone(), [small.clone(), too_large]).await);
            let taken = format!("`{}` does not take the document", view.namespace());
            assert!(error.starts_with(&taken), "{sink:?}: {error}");
            assert!(error.len() < 200, "{sink:?}: {error}");
        }
        assert_eq!(all(&view).await?.len(), 6, "{sink:?}");
        view.drop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_json_object_is_rejected() -> TestResult {
    let scene = Scene::new().await?;
    let view = scene.collection("view");
    for (message, expected) in [
        (
            Message::new("secret", "text/plain"),
            "the message is not JSON",
        ),
        (
            Message::new("\"secret\"", "application/json"),
            "the message is other JSON",
        ),
        (
            Message::new("[]", "application/json"),
            "the message is other JSON",
        ),
        (
            Message::new("secret", "application/json"),
            "the message makes no document: expected value",
        ),
        (
            Message::new(r#"{"a": {"$oid": "secret"}}"#, "application/json"),
            "is of no type",
        ),
    ] {
        let sink = MongoSink::insert(&view);
        let error = rejection(&deliver(sink, [(insert(1), message)]).await);
        assert!(
            error.contains(expected) && !error.contains("secret"),
            "{error}"
        );
    }
    assert!(all(&view).await?.is_empty());
    let message = Message::new(r#"{"n": 1}"#, "application/cloudevents+json; charset=utf-8");
    assert_none(&deliver(MongoSink::upsert(&view), [(insert(1), message)]).await);
    assert_eq!(all(&view).await?, [doc! { "_id": 1, "n": 1 }]);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_passes_is_waited_for() -> TestResult {
    let scene = Scene::new().await?;
    let view = scene.collection("view");
    let admin = scene.database.client().database("admin");
    let majority = doc! { "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "secret" } };
    let error = |code: i32| doc! { "errorCode": code };
    let failures = [
        (
            majority,
            Some("the majority did not confirm a write to"),
            "WriteConcernFailed (64)",
        ),
        (
            doc! { "closeConnection": true },
            Some("no answer to a write to"),
            "I/O error",
        ),
        (
            error(10107),
            Some("the server does not write to"),
            "NotWritablePrimary (10107)",
        ),
        (
            error(11600),
            Some("the server does not write to"),
            "InterruptedAtShutdown (11600)",
        ),
        (
            error(189),
            Some("the server does not write to"),
            "PrimarySteppedDown (189)",
        ),
        (
            error(50),
            Some("the server does not write to"),
            "MaxTimeMSExpired (50)",
        ),
        (
            error(13),
            Some("the user has not the rights"),
            "Unauthorized (13)",
        ),
        (error(10334), None, "BSONObjectTooLarge (10334)"),
    ];
    for (n, (data, retried, cause)) in (0..).zip(failures) {
        let fail = |times: Document| {
            let mut data = data.clone();
            data.insert("failCommands", ["update"].as_slice());
            doc! { "configureFailPoint": "failCommand", "mode": times, "data": data }
        };
        let sink = MongoSink::upsert(&view);
        if retried.is_some() {
            admin.run_command(fail(doc! { "times": 1 })).await?;
            let message = (insert(n), json(doc! { "n": n }));
            assert_none(&deliver(sink.clone(), [message]).await);
        }
        admin.run_command(fail(doc! { "times": 4 })).await?;
        let letters = deliver(sink, [(insert(-1), json(doc! { "n": n }))]).await;
        let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        admin.run_command(off).await?;
        let text = letters[0].error().join(": ");
        let attempts = if retried.is_some() { 4 } else { 1 };
        assert_eq!(letters[0].attempts(), attempts, "{text}");
        let start = retried.unwrap_or_default();
        let is_told = text.starts_with(start) && text.contains(cause);
        assert!(is_told && !text.contains("secret"), "{text}");
        let name = view.namespace().to_string();
        assert!(text.contains(&name), "{text}");
    }
    // The majority's answer was missing, not the write.
    let ids = all(&view).await?;
    let ids: Result<Vec<_>, _> = ids.iter().map(|found| found.get_i32("_id")).collect();
    assert_eq!(ids?, Vec::from_iter(-1..7));
    Ok(())
}
