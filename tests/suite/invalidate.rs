//! What becomes of a stream when what it watches is dropped or renamed: it goes on with whatever takes the name.

use std::time::Duration;

use changestream::{MongoCheckpoints, ResumePoint, prelude::*};
use mongodb::bson::doc;

use crate::support::{
    Event, Scene, Seen, Started, TestResult, after, eventually,
    failpoint::{Failure, aggregates, fail, heal},
    ready, recorder, token_time,
};

/// What takes the collection away.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Drop,
    Rename,
    DropDatabase,
}

impl Loss {
    async fn happen<S>(self, scene: &Scene<S>) -> TestResult {
        match self {
            Self::Drop => scene.collection("orders").drop().await?,
            Self::Rename => {
                let name = |collection| format!("{}.{collection}", scene.database.name());
                let rename = doc! { "renameCollection": name("orders"), "to": name("archive"), "dropTarget": true };
                let admin = scene.client.database("admin");
                admin.run_command(rename).await?;
            }
            Self::DropDatabase => scene.database.drop().await?,
        }
        Ok(())
    }
}

/// Takes the collection away twice under a running stream, with events right before and right after.
async fn goes_on(
    handler: fn() -> HandlerSpec<Seen>,
    loss: Loss,
) -> Result<Vec<Event>, crate::support::BoxError> {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let runtime = Started::new(scene.runtime(&seen).handlers([handler()]));
    // What is to hold its checkpoint must not be dropped while it starts.
    ready(&runtime.health).await;
    scene.insert(0..5).await?;
    for round in 1..3 {
        loss.happen(&scene).await?;
        scene.insert(10 * round..10 * round + 5).await?;
        seen.all([10 * round + 4]).await;
    }
    runtime.stop().await?;
    let inserted = (0..5).chain(10..15).chain(20..25);
    assert_eq!(seen.ids(), inserted.collect::<Vec<_>>());
    Ok(seen.events())
}

fn operations(events: &[Event], but: &Operation) -> Vec<String> {
    let others = events.iter().filter(|event| event.operation != *but);
    others.map(|event| event.operation.to_string()).collect()
}

/// A collection's stream, of which no handler listens for the loss.
fn of_the_collection() -> HandlerSpec<Seen> {
    recorder(&["orders"])
}

/// A database's stream, of which no handler listens for the loss.
fn of_collections() -> HandlerSpec<Seen> {
    recorder(&["orders", "customers"])
}

fn of_the_database() -> HandlerSpec<Seen> {
    recorder(&[])
}

#[tokio::test]
async fn a_collection_stream_outlives_a_drop_that_nobody_listens_for() -> TestResult {
    goes_on(of_the_collection, Loss::Drop).await.map(drop)
}

#[tokio::test]
async fn a_collection_stream_outlives_a_rename_that_nobody_listens_for() -> TestResult {
    goes_on(of_the_collection, Loss::Rename).await.map(drop)
}

#[tokio::test]
async fn a_collection_stream_outlives_the_drop_of_its_database() -> TestResult {
    goes_on(of_the_collection, Loss::DropDatabase)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_database_stream_outlives_the_drop_of_a_collection() -> TestResult {
    goes_on(of_collections, Loss::Drop).await.map(drop)
}

#[tokio::test]
async fn a_database_stream_outlives_the_drop_of_its_database() -> TestResult {
    goes_on(of_collections, Loss::DropDatabase).await.map(drop)
}

#[tokio::test]
async fn a_stream_of_all_collections_outlives_the_drop_of_its_database() -> TestResult {
    goes_on(of_the_database, Loss::DropDatabase).await.map(drop)
}

#[tokio::test]
async fn who_listens_for_the_drop_hears_of_it() -> TestResult {
    let listening = || {
        of_the_collection().operations([Operation::Insert, Operation::Drop, Operation::Invalidate])
    };
    let events = goes_on(listening, Loss::Drop).await?;
    let heard = operations(&events, &Operation::Insert);
    assert_eq!(heard, ["drop", "invalidate", "drop", "invalidate"]);
    Ok(())
}

#[tokio::test]
async fn who_listens_for_the_rename_hears_of_it() -> TestResult {
    let listening = || {
        of_the_collection().operations([
            Operation::Insert,
            Operation::Rename,
            Operation::Invalidate,
        ])
    };
    let events = goes_on(listening, Loss::Rename).await?;
    let heard = operations(&events, &Operation::Insert);
    assert_eq!(heard, ["rename", "invalidate", "rename", "invalidate"]);
    Ok(())
}

#[tokio::test]
async fn who_listens_for_the_drop_of_the_database_hears_of_it() -> TestResult {
    let listening = || {
        of_collections().operations([
            Operation::Insert,
            Operation::DropDatabase,
            Operation::Invalidate,
        ])
    };
    let events = goes_on(listening, Loss::DropDatabase).await?;
    let heard = operations(&events, &Operation::Insert);
    assert_eq!(
        heard,
        ["dropDatabase", "invalidate", "dropDatabase", "invalidate"]
    );
    Ok(())
}

/// Stops when the checkpoint is that of the invalidation; what is written before the next start is not missed.
async fn restarts_after_it(handler: fn() -> HandlerSpec<Seen>, loss: Loss) -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let start = || {
        let builder = scene.runtime(&seen).checkpoint_events(1);
        let builder = builder.checkpoint_interval(Duration::from_secs(3600));
        Started::new(builder.handlers([handler()]))
    };
    let runtime = start();
    scene.insert(0..5).await?;
    seen.count(5).await;
    let before_it = after(&scene.client).await;
    loss.happen(&scene).await?;
    let after_it = async || {
        let position = scene.checkpoint().await?.position?;
        match position {
            ResumePoint::StartAfter(token) if token_time(&token) >= before_it => Some(()),
            _ => None,
        }
    };
    eventually("the invalidation is checkpointed", after_it).await;
    runtime.crash().await;
    scene.insert(10..15).await?;
    let runtime = start();
    seen.all(10..15).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), (0..5).chain(10..15).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_restart_right_after_the_drop_of_a_collection_misses_nothing() -> TestResult {
    restarts_after_it(of_the_collection, Loss::Drop).await
}

#[tokio::test]
async fn a_restart_right_after_the_drop_of_a_database_misses_nothing() -> TestResult {
    let listening = || of_collections().operations([Operation::Insert, Operation::Invalidate]);
    restarts_after_it(listening, Loss::DropDatabase).await
}

/// The collection is taken away, and another takes its name, while nobody watches.
async fn starts_after_it(handler: fn() -> HandlerSpec<Seen>, loss: Loss) -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let elsewhere = scene
        .client
        .database(&format!("{}_own", scene.database.name()));
    let start = || {
        let builder = scene
            .runtime(&seen)
            .checkpoint_store(MongoCheckpoints::new(&elsewhere));
        Started::new(builder.handlers([handler()]))
    };
    let runtime = start();
    scene.insert(0..5).await?;
    seen.count(5).await;
    runtime.stop().await?;
    scene.insert(5..8).await?;
    loss.happen(&scene).await?;
    scene.insert(10..15).await?;
    loss.happen(&scene).await?;
    scene.insert(20..25).await?;
    let runtime = start();
    seen.all(20..25).await;
    runtime.stop().await?;
    assert_eq!(
        seen.ids(),
        (0..8).chain(10..15).chain(20..25).collect::<Vec<_>>()
    );
    Ok(())
}

/// The stream is broken again and again while the collection is taken away.
#[tokio::test]
async fn a_storm_of_errors_around_the_drop_misses_nothing() -> TestResult {
    let scene = Scene::own().await;
    let seen = Seen::default();
    let runtime = Started::new(scene.runtime(&seen).handlers([of_the_collection()]));
    scene.insert(0..5).await?;
    seen.count(5).await;
    fail(&scene.client, &["getMore"], "alwaysOn", Failure::code(43)).await?;
    let before = aggregates(&scene.client).await?;
    Loss::Drop.happen(&scene).await?;
    eventually("the stream is opened again and again", async || {
        let opened = aggregates(&scene.client).await.expect("a number") - before;
        assert!(!runtime.has_ended(), "after {opened} aggregates");
        (opened > 4).then_some(())
    })
    .await;
    heal(&scene.client).await?;
    scene.insert(10..15).await?;
    seen.all(10..15).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), (0..5).chain(10..15).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn drops_while_nobody_watches_hide_nothing() -> TestResult {
    starts_after_it(of_the_collection, Loss::Drop).await
}

#[tokio::test]
async fn renames_while_nobody_watches_hide_nothing() -> TestResult {
    starts_after_it(of_the_collection, Loss::Rename).await
}

#[tokio::test]
async fn drops_of_the_database_while_nobody_watches_hide_nothing() -> TestResult {
    starts_after_it(of_collections, Loss::DropDatabase).await
}
