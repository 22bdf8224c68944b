//! G2: a missing image and an invalidated stream are treated as their policies say.

use std::time::Duration;

use changestream::{CheckpointStore, MongoCheckpoints, OnInvalidate, OnMissingImage, prelude::*};
use mongodb::bson::{Document, doc};

use crate::support::{
    Event, RUNTIME, Scene, Seen, Started, TestResult, chain, recorder,
    store::{Faults, FaultyCheckpoints},
};

#[tokio::test]
async fn an_invalidated_stream_can_stop_and_the_next_start_goes_on_after_it() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let start = || {
        let builder = scene.runtime(&seen).on_invalidate(OnInvalidate::Stop);
        Started::new(builder.handlers([recorder(&["orders"])]))
    };
    for round in 0..2 {
        let ids = 10 * round..10 * round + 5;
        let runtime = start();
        scene.insert(ids.clone()).await?;
        scene.collection("orders").drop().await?;
        let error = runtime.error().await;
        assert!(error.is_invalidated(), "{}", chain(&error));
        assert!(
            error.to_string().contains("OnInvalidate::Restart"),
            "{error}"
        );
        assert_eq!(
            seen.ids(),
            (0..=round)
                .flat_map(|round| 10 * round..10 * round + 5)
                .collect::<Vec<_>>()
        );
    }
    Ok(())
}

/// A handler that cannot do without the pre-image.
fn requires_image() -> HandlerSpec<Seen> {
    let handle = async |State(seen): State<Seen>, _: PreImage<Document>, change: RawChange| {
        seen.push(Event::of(&change, 1));
        Ok::<_, HandlerError>(())
    };
    let spec = HandlerSpec::new("audit", handle).collections(["orders"]);
    spec.operations([Operation::Update])
}

/// A handler that takes the pre-image where there is one; its events are those without.
fn takes_image() -> HandlerSpec<Seen> {
    let handle =
        async |State(seen): State<Seen>, image: Option<PreImage<Document>>, change: RawChange| {
            if image.is_none() {
                seen.push(Event::of(&change, 1));
            }
            Ok::<_, HandlerError>(())
        };
    let spec = HandlerSpec::new("history", handle).collections(["orders"]);
    spec.operations([Operation::Update])
}

async fn update<S>(scene: &Scene<S>, n: i64) -> TestResult {
    let update = doc! { "$set": { "n": n } };
    let orders = scene.collection("orders");
    orders.update_one(doc! { "_id": 1_i64 }, update).await?;
    Ok(())
}

/// Three updates of an order, of which the collection recorded the pre-image of the first and the last. `None` where
/// the server records none.
async fn image_missing()
-> Result<Option<Scene<changestream_testkit::TestServer>>, crate::support::BoxError> {
    let scene = Scene::new().await;
    if scene.version().await < [6, 0] {
        eprintln!("the server records no pre-images");
        return Ok(None);
    }
    let record = async |enabled: bool| {
        let images = doc! { "enabled": enabled };
        let command = doc! { "collMod": "orders", "changeStreamPreAndPostImages": images };
        scene.database.run_command(command).await
    };
    scene.insert([1]).await?;
    for (n, enabled) in [(2, true), (3, false), (4, true)] {
        record(enabled).await?;
        update(&scene, n).await?;
    }
    Ok(Some(scene))
}

fn versions(seen: &Seen) -> Vec<i64> {
    let events = seen.events();
    events.iter().filter_map(|event| event.n).collect()
}

#[tokio::test]
async fn a_missing_image_ends_the_runtime_and_the_event_comes_again() -> TestResult {
    let Some(scene) = image_missing().await? else {
        return Ok(());
    };
    let seen = Seen::default();
    let builder = || scene.runtime(&seen).handlers([requires_image()]);
    for _ in 0..2 {
        let error = Started::new(builder()).error().await;
        assert!(error.is_missing_image(), "{}", chain(&error));
        for part in [
            "`audit`",
            "pre-image",
            ".orders`",
            "OnMissingImage::DeadLetter",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    let before = seen.events();
    assert!(before.iter().all(|event| event.n == Some(2)), "{before:?}");
    assert!(scene.dead_letters().await.is_empty());

    let runtime = Started::new(builder().on_missing_image(OnMissingImage::DeadLetter));
    seen.until(|events| events.iter().any(|event| event.n == Some(4)))
        .await;
    runtime.stop().await?;
    assert!(!versions(&seen).contains(&3));
    let letters = scene.dead_letters().await;
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!(letter.get_str("kind")?, "rejection");
    assert_eq!(letter.get_str("handler")?, "audit");
    Ok(())
}

#[tokio::test]
async fn what_is_done_before_a_missing_image_does_not_come_again() -> TestResult {
    let Some(scene) = image_missing().await? else {
        return Ok(());
    };
    let seen = Seen::default();
    for _ in 0..2 {
        let builder = scene
            .runtime(&seen)
            .checkpoint_interval(Duration::from_secs(3600));
        let error = Started::new(builder.handlers([requires_image()]))
            .error()
            .await;
        assert!(error.is_missing_image(), "{}", chain(&error));
    }
    assert_eq!(versions(&seen), [2]);
    Ok(())
}

#[tokio::test]
async fn a_failure_is_reported_though_what_is_done_cannot_be_saved() -> TestResult {
    let Some(scene) = image_missing().await? else {
        return Ok(());
    };
    let faults = Faults::default();
    let store = FaultyCheckpoints {
        inner: MongoCheckpoints::new(&scene.database),
        faults: faults.clone(),
    };
    let seen = Seen::default();
    // It goes down with the first event, after the runtime's first checkpoint.
    let handle = move |State(seen): State<Seen>, _: PreImage<Document>, change: RawChange| {
        faults.begin();
        seen.push(Event::of(&change, 1));
        std::future::ready(Ok::<_, HandlerError>(()))
    };
    let spec = HandlerSpec::new("audit", handle).collections(["orders"]);
    let spec = spec.operations([Operation::Update]);
    let builder = scene.runtime(&seen).checkpoint_store(store);
    let error = Started::new(builder.handlers([spec])).error().await;
    assert!(error.is_missing_image(), "{}", chain(&error));
    assert_eq!(versions(&seen), [2]);
    Ok(())
}

#[tokio::test]
async fn a_missing_post_image_ends_the_runtime_where_post_images_are_asked_for() -> TestResult {
    let Some(scene) = image_missing().await? else {
        return Ok(());
    };
    let seen = Seen::default();
    let handle = async |State(seen): State<Seen>, _: FullDocument<Document>, change: RawChange| {
        seen.push(Event::of(&change, 1));
        Ok::<_, HandlerError>(())
    };
    let spec = HandlerSpec::new("after", handle).collections(["orders"]);
    let error = Started::new(scene.runtime(&seen).handlers([spec]))
        .error()
        .await;
    assert!(error.is_missing_image(), "{}", chain(&error));
    assert!(error.to_string().contains("post-image"), "{error}");
    assert!(!versions(&seen).contains(&3));
    Ok(())
}

#[tokio::test]
async fn who_takes_an_image_as_an_option_is_not_stopped_by_a_missing_one() -> TestResult {
    let Some(scene) = image_missing().await? else {
        return Ok(());
    };
    let seen = Seen::default();
    let runtime = Started::new(scene.runtime(&seen).handlers([takes_image()]));
    seen.count(1).await;
    runtime.stop().await?;
    assert_eq!(versions(&seen), [3]);
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn images_that_nobody_records_can_be_passed_over() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let builder = scene
        .runtime(&seen)
        .on_missing_image(OnMissingImage::PassNone);
    let runtime = Started::new(builder.handlers([requires_image(), takes_image()]));
    scene.insert([1]).await?;
    update(&scene, 2).await?;
    update(&scene, 3).await?;
    seen.count(2).await;
    runtime.stop().await?;
    assert_eq!(versions(&seen), [2, 3], "of the handler that takes none");
    let letters = scene.dead_letters().await;
    assert_eq!(letters.len(), 2, "of the handler that cannot: {letters:?}");
    for letter in letters {
        assert_eq!(letter.get_str("handler")?, "audit");
    }
    assert!(
        MongoCheckpoints::new(&scene.database)
            .load(RUNTIME)
            .await?
            .is_some()
    );
    Ok(())
}
