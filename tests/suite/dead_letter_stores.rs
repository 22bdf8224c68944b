//! What every dead-letter store does alike: in memory, and on a real server.

use std::time::Duration;

use changestream::{
    DeadLetter, DeadLetterFilter, DeadLetterStore, DeadLetterSummary, HandlerError,
    MemoryDeadLetters, MongoDeadLetters, ReplayMark,
    prelude::*,
    testing::{RecordingSink, TestRuntime, change},
};
use mongodb::bson::{Binary, DateTime, Document, doc, spec::BinarySubtype};

use crate::support::{Scene, TestResult};

/// Letters of real failures, in stream order: of three orders by two handlers, one of which has a sink that
/// is down.
async fn letters() -> Vec<DeadLetter> {
    async fn fail() -> Result<(), HandlerError> {
        Err(HandlerError::reject(std::io::Error::other("it is broken")))
    }
    async fn send() -> Result<Vec<Message>, HandlerError> {
        let message = |text: &'static str| Message::new(text, "text/plain").header("X-Of", text);
        Ok(vec![message("one"), message("two").key("two")])
    }
    let sink = RecordingSink::default();
    sink.fail_next(u32::MAX);
    let letters = MemoryDeadLetters::default();
    let mut runtime = TestRuntime::builder()
        .name("shop")
        .handlers([
            HandlerSpec::new("fail", fail).collections(["orders"]),
            HandlerSpec::new("send", send)
                .collections(["orders"])
                .to(["down"]),
        ])
        .sink(
            "down",
            SinkSpec::new(sink)
                .retries(1)
                .backoff(Duration::from_millis(1)),
        )
        .dead_letter_store(letters.clone())
        .build()
        .expect("a runtime");
    for id in 1..4 {
        let order = doc! { "_id": id, "total": 9.5 };
        runtime
            .send(change::insert("orders").id(id).full_document(&order))
            .await;
    }
    letters.letters()
}

fn ids(letters: &[DeadLetterSummary]) -> Vec<&str> {
    letters.iter().map(|letter| letter.id.as_str()).collect()
}

async fn keeps_the_contract(store: &dyn DeadLetterStore) -> TestResult {
    let letters = letters().await;
    assert_eq!(letters.len(), 9);
    store.prepare().await?;
    for letter in letters.iter().rev() {
        store.write(letter).await?;
    }
    round_trip(store, &letters).await?;
    filters(store, &letters).await?;
    pages(store, &letters).await?;
    marks(store, &letters[1]).await?;

    let id = letters[0].id();
    assert!(store.remove(id).await?);
    assert!(!store.remove(id).await?);
    assert_eq!(store.get(id).await?, None);
    Ok(())
}

async fn round_trip(store: &dyn DeadLetterStore, letters: &[DeadLetter]) -> TestResult {
    for letter in letters {
        let kept = store.get(letter.id()).await?.ok_or("a letter")?;
        // Equal in every field, those that have no accessor included.
        assert_eq!(&kept, letter);
        assert_eq!(kept.change().as_bytes(), letter.change().as_bytes());
    }
    let delivery = letters.iter().find(|letter| letter.sink().is_some());
    let message = delivery.and_then(DeadLetter::message).ok_or("a message")?;
    assert_eq!(&message.payload()[..], b"one");
    assert_eq!(message.headers()["X-Of"], "one");
    assert_eq!(store.get("another").await?, None);
    Ok(())
}

async fn filters(store: &dyn DeadLetterStore, letters: &[DeadLetter]) -> TestResult {
    let all = DeadLetterFilter::default;
    let count =
        async |filter: DeadLetterFilter| store.list(&filter, None, 100).await.map(|l| l.len());
    assert_eq!(count(all()).await?, 9);
    assert_eq!(count(all().runtime("shop")).await?, 9);
    assert_eq!(count(all().runtime("another")).await?, 0);
    assert_eq!(count(all().handler("fail")).await?, 3);
    assert_eq!(count(all().handler("send").sink("down")).await?, 6);
    assert_eq!(count(all().handler("fail").sink("down")).await?, 0);
    assert_eq!(count(all().kind("failed")).await?, 9);
    assert_eq!(count(all().kind("panic")).await?, 0);
    assert_eq!(count(all().awaits_replay()).await?, 0);
    let one = store.list(&all().id(letters[3].id()), None, 100).await?;
    assert_eq!(one, [letters[3].summary().clone()]);
    Ok(())
}

async fn pages(store: &dyn DeadLetterStore, letters: &[DeadLetter]) -> TestResult {
    let all = DeadLetterFilter::default();
    let in_order: Vec<_> = letters.iter().map(DeadLetter::id).collect();
    let first = store.list(&all, None, 4).await?;
    assert_eq!(
        ids(&first),
        in_order[..4],
        "oldest change first, however they were written"
    );
    // What a page ended with may be gone when the next one is asked for.
    let last = first.last().ok_or("a letter")?;
    store.remove(&last.id).await?;
    let second = store.list(&all, Some(last), 100).await?;
    assert_eq!(ids(&second), in_order[4..]);
    assert!(store.list(&all, second.last(), 4).await?.is_empty());
    assert!(store.list(&all, None, 0).await?.is_empty());
    store.write(&letters[3]).await?;
    Ok(())
}

async fn marks(store: &dyn DeadLetterStore, letter: &DeadLetter) -> TestResult {
    let id = letter.id();
    let waiting = DeadLetterFilter::default().awaits_replay();
    let replay = async || {
        store
            .list(&waiting, None, 9)
            .await
            .map(|found| found.first().and_then(|letter| letter.replay.clone()))
    };
    let request = ReplayMark::Requested {
        by: Some("me".into()),
    };
    let refused = ReplayMark::Refused {
        reason: "no".into(),
    };

    assert!(!store.mark("another", &request).await?);
    assert!(
        !store.mark(id, &ReplayMark::Taken).await?,
        "nobody asked for it"
    );
    assert!(
        !store.mark(id, &ReplayMark::Withdrawn).await?,
        "nobody asked for it"
    );
    assert!(store.mark(id, &request).await?);
    let requested = replay().await?.ok_or("a request")?;
    assert_eq!(requested.requested_by.as_deref(), Some("me"));
    assert_eq!((requested.taken_at, requested.refused), (None, None));
    let age = DateTime::now().timestamp_millis() - requested.requested_at.timestamp_millis();
    assert!(age.abs() < 60_000, "{age} ms");
    assert!(store.mark(id, &ReplayMark::Withdrawn).await?);
    assert_eq!(replay().await?, None);

    store.mark(id, &request).await?;
    assert!(store.mark(id, &ReplayMark::Taken).await?);
    assert!(
        replay().await?.ok_or("a request")?.taken_at.is_some(),
        "unfinished is found again"
    );
    assert!(
        !store.mark(id, &ReplayMark::Withdrawn).await?,
        "a runtime is at it"
    );
    assert!(store.mark(id, &refused).await?);
    assert_eq!(replay().await?, None);
    let kept = store.get(id).await?.ok_or("a letter")?;
    let refusal = kept
        .summary()
        .replay
        .clone()
        .and_then(|replay| replay.refused);
    assert_eq!(refusal.as_deref(), Some("no"));

    store.mark(id, &ReplayMark::Requested { by: None }).await?;
    let requested = replay().await?.ok_or("a new request")?;
    assert_eq!(
        (
            requested.requested_by,
            requested.taken_at,
            requested.refused
        ),
        (None, None, None)
    );
    store.write(letter).await?;
    assert_eq!(
        store.get(id).await?.as_ref(),
        Some(letter),
        "a new failure ends the request"
    );
    Ok(())
}

#[tokio::test]
async fn a_store_in_memory_keeps_the_contract() -> TestResult {
    keeps_the_contract(&MemoryDeadLetters::default()).await
}

#[tokio::test]
async fn a_store_in_mongodb_keeps_the_contract() -> TestResult {
    let scene = Scene::new().await;
    keeps_the_contract(&MongoDeadLetters::new(&scene.database)).await
}

#[tokio::test]
async fn letters_of_the_first_release_are_read() -> TestResult {
    let scene = Scene::new().await;
    let failed_at = DateTime::from_millis(1_700_000_000_123);
    let token = doc! { "_data": "8265" };
    let event = doc! { "_id": &token, "operationType": "insert", "fullDocument": { "_id": 1 } };
    let payload = Binary {
        subtype: BinarySubtype::Generic,
        bytes: b"{}".to_vec(),
    };
    let letter = doc! {
        "_id": "shop/send/00ff/http/7",
        "runtime": "shop",
        "handler": "send",
        "sink": "http",
        "eventId": "00ff",
        "namespace": "shop.orders",
        "operation": "insert",
        "kind": "timeout",
        "attempts": 4_i64,
        "error": ["outer", "inner"],
        "failedAt": failed_at,
        "token": &token,
        "change": &event,
        "message": { "contentType": "application/json", "key": null, "headers": { "A": "b" }, "payload": payload },
    };
    let letters = scene.collection(MongoDeadLetters::COLLECTION);
    letters.insert_one(letter.clone()).await?;

    let store = MongoDeadLetters::new(&scene.database);
    let read = store
        .get("shop/send/00ff/http/7")
        .await?
        .ok_or("a letter")?;
    assert_eq!(
        (read.runtime(), read.handler(), read.sink()),
        ("shop", "send", Some("http"))
    );
    assert_eq!(
        (read.event_id(), read.kind(), read.attempts()),
        ("00ff", "timeout", 4)
    );
    assert_eq!(read.error(), ["outer", "inner"]);
    assert_eq!(read.summary().failed_at, failed_at);
    assert_eq!(Document::try_from(read.token())?, token);
    assert_eq!(Document::try_from(read.change())?, event);
    let message = read.message().ok_or("a message")?;
    assert_eq!(
        (message.content_type(), message.get_key()),
        ("application/json", None)
    );
    assert_eq!(&message.payload()[..], b"{}");
    store.write(&read).await?;
    let written = letters.find_one(doc! {}).await?.ok_or("a letter")?;
    assert_eq!(
        sorted(written),
        sorted(letter),
        "what is written is what it was"
    );
    Ok(())
}

fn sorted(document: Document) -> std::collections::BTreeMap<String, mongodb::bson::Bson> {
    document.into_iter().collect()
}
