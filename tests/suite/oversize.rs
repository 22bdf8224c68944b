//! G2 and G3: events of more than 16 MB come whole, or stop the stream, or become dead letters; never by halves.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use changestream::{CheckpointStore, MemoryCheckpoints, OnOversizeEvent, ResumePoint, prelude::*};
use changestream_testkit::MongoServer;
use mongodb::bson::{Document, doc};
use tokio::time::timeout;

use crate::support::{
    Event, RUNTIME, Scene, Seen, Started, TestResult, chain, eventually,
    failpoint::{Failure, aggregates, fail, heal},
    recorder, within,
};

const MB: usize = 1 << 20;

/// A value of 9 MB: two of them are too large for one event.
fn large(n: i64) -> String {
    n.to_string().repeat(9 * MB)
}

async fn splits<S>(scene: &Scene<S>) -> bool {
    let admin = scene.client.database("admin");
    let info = admin.run_command(doc! { "buildInfo": 1 }).await;
    let info = info.expect("the build's information");
    let version = info.get_array("versionArray").expect("a version");
    let version = [0, 1, 2].map(|part| version[part].as_i32().expect("a number"));
    let splits = version >= [7, 0, 0] || (version[..2] == [6, 0] && version[2] >= 9);
    if !splits {
        eprintln!("the server splits no events");
    }
    splits
}

async fn insert_large<S>(scene: &Scene<S>) -> TestResult {
    let large = doc! { "_id": 1_i64, "n": 1_i64, "large": large(1) };
    scene.collection("orders").insert_one(large).await?;
    Ok(())
}

/// Makes an event of 18 MB where images are recorded, and of 27 MB with the one before as well.
async fn update_large<S>(scene: &Scene<S>, n: i64) -> TestResult {
    let update = doc! { "$set": { "n": n, "large": large(n) } };
    let orders = scene.collection("orders");
    orders.update_one(doc! { "_id": 1_i64 }, update).await?;
    Ok(())
}

/// The sizes of full document, pre-image and update description, by event.
type Sizes = Arc<Mutex<Vec<[usize; 3]>>>;

/// A handler that takes every document there is.
fn weighing(sizes: &Sizes) -> HandlerSpec<Seen> {
    let sizes = Arc::clone(sizes);
    let handle = move |State(seen): State<Seen>, change: Change<Document>| {
        let raw = change.raw();
        let size = |part: Option<&mongodb::bson::RawDocument>| {
            part.map_or(0, |part| part.as_bytes().len())
        };
        assert!(
            raw.as_raw()
                .get("splitEvent")
                .is_ok_and(|field| field.is_none())
        );
        let parts = [
            raw.full_document(),
            raw.pre_image(),
            raw.raw_update_description(),
        ];
        sizes.lock().expect("no panic").push(parts.map(size));
        seen.push(Event::of(raw, 1));
        async { Ok::<_, HandlerError>(()) }
    };
    HandlerSpec::new("weigh", handle).collections(["orders"])
}

async fn record_images<S>(scene: &Scene<S>) -> TestResult {
    let images = doc! { "create": "orders", "changeStreamPreAndPostImages": { "enabled": true } };
    scene.database.run_command(images).await?;
    Ok(())
}

#[tokio::test]
async fn an_event_with_two_large_images_comes_whole_and_once() -> TestResult {
    let scene = Scene::new().await;
    if !splits(&scene).await {
        return Ok(());
    }
    record_images(&scene).await?;
    let (seen, sizes) = (Seen::default(), Sizes::default());
    let start = || Started::new(scene.runtime(&seen).handlers([weighing(&sizes)]));
    let runtime = start();
    insert_large(&scene).await?;
    update_large(&scene, 2).await?;
    scene.insert([2]).await?;
    seen.all([2]).await;
    runtime.stop().await?;
    let runtime = start();
    scene.insert([3]).await?;
    seen.all([3]).await;
    runtime.stop().await?;

    assert_eq!(seen.ids(), [1, 1, 2, 3]);
    assert!(scene.dead_letters().await.is_empty());
    let sizes = sizes.lock().expect("no panic");
    assert!(sizes[1].iter().all(|size| *size > 9 * MB), "{sizes:?}");
    Ok(())
}

/// The server's reply ends in the middle of the large event, after small ones: their end is counted once.
#[tokio::test]
async fn small_events_in_one_reply_with_a_part_of_a_large_one_are_done_once() -> TestResult {
    let scene = Scene::new().await;
    if !splits(&scene).await {
        return Ok(());
    }
    record_images(&scene).await?;
    let (seen, sizes) = (Seen::default(), Sizes::default());
    let start = || {
        let builder = scene.runtime(&seen).handlers([weighing(&sizes)]);
        Started::new(builder.in_flight_events(4))
    };
    let runtime = start();
    insert_large(&scene).await?;
    seen.count(1).await;
    runtime.stop().await?;

    scene.insert(2..6).await?;
    update_large(&scene, 2).await?;
    scene.insert(6..12).await?;
    let runtime = start();
    seen.all([11]).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2, 3, 4, 5, 1, 6, 7, 8, 9, 10, 11]);
    Ok(())
}

/// Breaks the stream after each number of batches in turn, so that some breaks are between fragments.
async fn broken_between_fragments(crash: bool) -> TestResult {
    let scene = Scene::own().await;
    if !splits(&scene).await {
        return Ok(());
    }
    record_images(&scene).await?;
    let (seen, sizes) = (Seen::default(), Sizes::default());
    let start = || {
        // So often that the place in the middle of an event would be saved, if it were handed on.
        let builder = scene.runtime(&seen).handlers([weighing(&sizes)]);
        Started::new(builder.checkpoint_interval(Duration::from_millis(1)))
    };
    let mut runtime = start();
    insert_large(&scene).await?;
    seen.count(1).await;
    for batches in 1..=4_i64 {
        let before = aggregates(&scene.client).await?;
        let broken = Failure::code(43);
        fail(
            &scene.client,
            &["getMore"],
            doc! { "skip": batches as i32 },
            broken,
        )
        .await?;
        update_large(&scene, batches + 1).await?;
        eventually("the stream breaks", async || {
            let opened = aggregates(&scene.client).await.expect("a number") - before;
            (opened > 1).then_some(())
        })
        .await;
        if crash {
            runtime.crash().await;
            heal(&scene.client).await?;
            runtime = start();
        } else {
            heal(&scene.client).await?;
        }
        let whole = |events: &[Event]| events.iter().any(|event| event.n == Some(batches + 1));
        seen.until(whole).await;
    }
    runtime.stop().await?;
    let mut events = seen.events();
    events.dedup_by(|again, first| crash && again.event_id == first.event_id);
    let versions: Vec<_> = events.iter().filter_map(|event| event.n).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
    let sizes = sizes.lock().expect("no panic");
    for size in &sizes[1..] {
        assert!(size.iter().all(|size| *size > 9 * MB), "{sizes:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_breaks_between_fragments_gives_the_event_whole_and_once() -> TestResult {
    broken_between_fragments(false).await
}

#[tokio::test]
async fn a_crash_between_fragments_gives_the_event_whole_under_the_same_id() -> TestResult {
    broken_between_fragments(true).await
}

#[tokio::test]
async fn around_the_first_large_event_all_come_again_as_themselves() -> TestResult {
    let scene = Scene::new().await;
    if !splits(&scene).await {
        return Ok(());
    }
    record_images(&scene).await?;
    let (seen, sizes) = (Seen::default(), Sizes::default());
    let checkpoints = MemoryCheckpoints::default();
    let start = || {
        let builder = scene.runtime(&seen).handlers([weighing(&sizes)]);
        let builder = builder.checkpoint_store(checkpoints.clone());
        Started::new(builder.checkpoint_interval(Duration::from_secs(3600)))
    };
    let runtime = start();
    scene.insert(10..13).await?;
    seen.all(10..13).await;
    scene.insert(20..23).await?;
    insert_large(&scene).await?;
    update_large(&scene, 2).await?;
    scene.insert(30..33).await?;
    seen.all(30..33).await;
    runtime.crash().await;
    let first = seen.events();
    // The stream is opened where it was at first, and finds the large event among those behind that place.
    let runtime = start();
    let both = seen.count(first.len() * 2).await;
    runtime.stop().await?;
    assert_eq!(first.len(), 11);
    assert_eq!(both[first.len()..], first);
    Ok(())
}

#[tokio::test]
async fn what_the_server_can_do_is_asked_again_when_the_answer_is_lost() -> TestResult {
    let scene = Scene::<MongoServer>::own().await;
    if !splits(&scene).await {
        return Ok(());
    }
    record_images(&scene).await?;
    let (seen, sizes) = (Seen::default(), Sizes::default());
    let runtime = Started::new(scene.runtime(&seen).handlers([weighing(&sizes)]));
    insert_large(&scene).await?;
    seen.all([1]).await;
    let twice = doc! { "times": 2 };
    fail(&scene.client, &["buildInfo"], twice, Failure::hang_up()).await?;
    update_large(&scene, 2).await?;
    scene.insert([2]).await?;
    seen.all([2]).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 1, 2]);
    Ok(())
}

/// A handler that takes the document after a change.
fn taking(name: &str) -> HandlerSpec<Seen> {
    let handle =
        async |State(seen): State<Seen>, _: Option<FullDocument<Document>>, change: RawChange| {
            seen.push(Event::of(&change, 1));
            Ok::<_, HandlerError>(())
        };
    HandlerSpec::new(name, handle).collections(["orders"])
}

#[tokio::test]
async fn a_checkpoint_at_a_split_event_outlives_its_image() -> TestResult {
    let scene = Scene::new().await;
    if !splits(&scene).await {
        return Ok(());
    }
    record_images(&scene).await?;
    let seen = Seen::default();
    let checkpoints = MemoryCheckpoints::default();
    let start = || {
        let builder = scene.runtime(&seen).handlers([taking("look")]);
        let builder = builder.checkpoint_store(checkpoints.clone());
        Started::new(
            builder
                .checkpoint_events(1)
                .checkpoint_interval(Duration::from_secs(3600)),
        )
    };
    let runtime = start();
    insert_large(&scene).await?;
    let is_split = async || {
        let checkpoint = checkpoints.load(RUNTIME).await.expect("read")?;
        matches!(checkpoint.position, Some(ResumePoint::SplitEvent(_))).then_some(())
    };
    // Where an event takes longer than the server waits for the next one, the place after it is checkpointed instead.
    let updating = async {
        for n in 2.. {
            update_large(&scene, n).await.expect("an update");
            let is_seen = |events: &[Event]| events.iter().any(|event| event.n == Some(n));
            seen.until(is_seen).await;
            let is_saved = eventually("the split event is checkpointed", is_split);
            if timeout(Duration::from_secs(3), is_saved).await.is_ok() {
                return;
            }
        }
    };
    within("a split event is checkpointed", updating).await;
    runtime.crash().await;
    assert!(is_split().await.is_some());

    let config = scene.client.database("config");
    let images = config.collection::<Document>("system.preimages");
    images.delete_many(doc! {}).await?;
    scene.insert([2]).await?;
    let runtime = start();
    seen.all([2]).await;
    runtime.stop().await?;
    let mut ids = seen.ids();
    ids.dedup();
    assert_eq!(ids, [1, 2]);
    Ok(())
}

#[tokio::test]
async fn an_oversize_event_that_is_not_split_ends_the_runtime_and_is_not_skipped() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let mut policies = vec![OnOversizeEvent::Fail];
    if !splits(&scene).await {
        policies.push(OnOversizeEvent::Split);
    }
    record_images(&scene).await?;
    insert_large(&scene).await?;
    update_large(&scene, 2).await?;
    for policy in policies {
        for _ in 0..2 {
            let builder = scene.runtime(&seen).handlers([taking("look")]);
            let error = Started::new(builder.on_oversize_event(policy))
                .error()
                .await;
            assert!(error.is_stream(), "{}", chain(&error));
            assert!(
                error.to_string().contains("OnOversizeEvent::DeadLetter"),
                "{error}"
            );
        }
    }
    assert!(
        seen.events()
            .iter()
            .all(|event| event.operation == Operation::Insert)
    );
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn oversize_events_become_dead_letters_of_whoever_would_take_them() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let start = || {
        let handlers = [
            taking("look"),
            taking("price")
                .operations([Operation::Update])
                .fields(["price"]),
            taking("large")
                .operations([Operation::Update])
                .fields(["large.part"]),
        ];
        let builder = scene.runtime(&seen).handlers(handlers);
        Started::new(builder.on_oversize_event(OnOversizeEvent::DeadLetter))
    };
    record_images(&scene).await?;
    // All of it is there when the stream opens: the good events around share its batches.
    scene.insert(10..13).await?;
    insert_large(&scene).await?;
    scene.insert(20..23).await?;
    update_large(&scene, 2).await?;
    update_large(&scene, 3).await?;
    scene.insert(30..33).await?;
    update_large(&scene, 4).await?;
    scene.insert(40..43).await?;
    let runtime = start();
    seen.all([42]).await;
    runtime.stop().await?;
    let runtime = start();
    scene.insert([50]).await?;
    seen.all([50]).await;
    runtime.stop().await?;

    let good = (10..13)
        .chain([1])
        .chain(20..23)
        .chain(30..33)
        .chain(40..43)
        .chain([50]);
    assert_eq!(seen.ids(), good.collect::<Vec<_>>());
    let letters = scene.dead_letters().await;
    let of = |name: &str| {
        let letters = letters.iter();
        letters
            .filter(|letter| letter.get_str("handler").is_ok_and(|found| found == name))
            .count()
    };
    assert_eq!((of("look"), of("large"), of("price")), (3, 3, 0));
    for letter in &letters {
        assert_eq!(letter.get_str("kind")?, "oversize");
        assert_eq!(letter.get_str("operation")?, "update");
        let change = letter.get_document("change")?;
        assert_eq!(change.get_document("documentKey")?, &doc! { "_id": 1_i64 });
        assert!(
            change
                .get_array("omittedFields")
                .is_ok_and(|omitted| !omitted.is_empty())
        );
        let description = change.get_document("updateDescription")?;
        let updated: Vec<_> = description.get_document("updatedFields")?.keys().collect();
        assert!(updated.iter().any(|field| *field == "large"), "{updated:?}");
        assert!(!change.contains_key("fullDocument"));
    }
    Ok(())
}

/// Inserts a document that fits into the oplog, but not, with its key in the token, into a fragment.
async fn insert_unsplittable<S>(scene: &Scene<S>) -> TestResult {
    let key = "k".repeat(400 << 10);
    let document = doc! { "_id": key, "x": "x".repeat(15 * MB + (100 << 10)) };
    scene.collection("orders").insert_one(document).await?;
    Ok(())
}

#[tokio::test]
async fn a_field_that_is_too_large_by_itself_ends_the_runtime_until_it_may_be_dead_lettered()
-> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let builder = || scene.runtime(&seen).handlers([recorder(&["orders"])]);
    scene.insert([1]).await?;
    insert_unsplittable(&scene).await?;
    scene.insert([2]).await?;
    for _ in 0..2 {
        let error = Started::new(builder()).error().await;
        assert!(error.is_stream(), "{}", chain(&error));
        assert!(
            error.to_string().contains("OnOversizeEvent::DeadLetter"),
            "{error}"
        );
    }
    assert!(!seen.ids().contains(&2));

    let builder = builder().on_oversize_event(OnOversizeEvent::DeadLetter);
    let runtime = Started::new(builder);
    seen.all([1, 2]).await;
    runtime.stop().await?;
    let letters = scene.dead_letters().await;
    let [letter] = letters.as_slice() else {
        panic!("{} letters", letters.len())
    };
    assert_eq!(letter.get_str("kind")?, "oversize");
    assert_eq!(letter.get_str("operation")?, "insert");
    Ok(())
}

#[tokio::test]
async fn a_split_event_that_its_handler_fails_on_is_dead_lettered_without_its_documents()
-> TestResult {
    let scene = Scene::new().await;
    if !splits(&scene).await {
        return Ok(());
    }
    record_images(&scene).await?;
    let seen = Seen::default();
    let handle = async |State(seen): State<Seen>, change: Change<Document>| {
        seen.push(Event::of(change.raw(), 1));
        match change.operation() {
            Operation::Update => Err(HandlerError::reject("no updates")),
            _ => Ok(()),
        }
    };
    let spec = HandlerSpec::new("picky", handle).collections(["orders"]);
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]));
    insert_large(&scene).await?;
    update_large(&scene, 2).await?;
    scene.insert([2]).await?;
    seen.all([2]).await;
    runtime.stop().await?;
    let letters = scene.dead_letters().await;
    let [letter] = letters.as_slice() else {
        panic!("{} letters", letters.len())
    };
    assert_eq!(letter.get_str("kind")?, "failed");
    let change = letter.get_document("change")?;
    assert_eq!(change.get_document("documentKey")?, &doc! { "_id": 1_i64 });
    assert_eq!(change.get_array("omittedFields")?.len(), 3);
    assert_eq!(change.get_document("_id")?, letter.get_document("token")?);
    Ok(())
}
