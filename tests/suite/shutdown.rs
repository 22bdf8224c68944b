//! G10: shutdown drains, commits and returns; whatever ends it early loses nothing.

use std::{sync::Arc, time::Duration};

use changestream::prelude::*;
use changestream_testkit::MongoServer;
use mongodb::{
    Client,
    bson::{Document, doc},
};
use nix::sys::signal::Signal;
use tokio::sync::Semaphore;

use crate::support::{
    Scene, Seen, Started, TestResult,
    child::{ABORTED, Child, Settings, copies, wait_until_watching},
    eventually, gated, recorder, within,
    writer::Writer,
};

#[tokio::test]
async fn a_shutdown_finishes_what_is_in_flight_and_takes_no_more() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let start = || {
        let builder = scene.runtime(&seen).handlers([gated(&gate)]);
        Started::new(builder.in_flight_events(2))
    };
    scene.insert(1..6).await?;
    let runtime = start();
    seen.count(1).await;
    let stopping = tokio::spawn(runtime.stop());
    // On this one thread, every task has its turn meanwhile: the shutdown is asked for and noticed.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(100);
    within("the runtime stops", stopping).await??;
    let handled = seen.ids();
    assert!(handled.len() < 5, "{handled:?}");

    let runtime = start();
    seen.all(1..6).await;
    runtime.stop().await?;
    assert_eq!(
        seen.ids(),
        [1, 2, 3, 4, 5],
        "nothing is lost, nothing comes twice"
    );
    Ok(())
}

#[tokio::test]
async fn the_drain_deadline_ends_a_shutdown_and_the_event_comes_again() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let start = || {
        let builder = scene.runtime(&seen).handlers([gated(&gate)]);
        Started::new(builder.drain_deadline(Duration::from_millis(100)))
    };
    let runtime = start();
    scene.insert([1]).await?;
    seen.count(1).await;
    let error = runtime.stop().await.expect_err("the deadline");
    assert!(error.is_drain_deadline(), "{error}");
    assert!(error.to_string().contains("100ms"), "{error}");

    gate.add_permits(100);
    let runtime = start();
    let events = seen.count(2).await;
    runtime.stop().await?;
    assert_eq!(events[0], events[1]);
    Ok(())
}

#[tokio::test]
async fn a_shutdown_before_the_start_returns_at_once() -> TestResult {
    let client = Client::with_uri_str("mongodb://localhost:1").await?;
    let runtime = Runtime::builder(client.database("shop"))
        .name("test")
        .state(Seen::default());
    let runtime = runtime.handlers([recorder(&["orders"])]).build()?;
    within(
        "the runtime ends",
        runtime.run_until(std::future::ready(())),
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_shutdown_of_an_idle_stream_is_quick_and_clean() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let runtime = Started::new(scene.runtime(&seen).handlers([recorder(&["orders"])]));
    scene.insert([1]).await?;
    seen.count(1).await;
    tokio::time::timeout(Duration::from_secs(20), runtime.stop())
        .await
        .expect("quick")?;
    Ok(())
}

/// Not a test: the service that the tests below start as a process of its own.
/// Sends this signal to one child after the other, under load.
async fn end_children_by(
    by: Signal,
) -> Result<(Vec<(i64, i64)>, Vec<(i64, i64)>), crate::support::BoxError> {
    let server = MongoServer::start().await?;
    let client = crate::support::client(&server.uri()).await;
    let settings = match by {
        Signal::SIGKILL => Settings {
            lease: Duration::from_secs(2),
            ..Settings::default()
        },
        _ => Settings::default(),
    };
    let start = || Child::start(&server.uri(), settings);
    let mut child = start();
    wait_until_watching(&client).await;
    let mut writer = Writer::start(client.database("shop").collection("orders"));
    for _ in 0..3 {
        writer.more(100).await;
        eventually("the child copies", async || {
            (!copies(&client).await.is_empty()).then_some(())
        })
        .await;
        child.signal(by);
        let status = within("the child ends", child.wait()).await;
        assert_eq!(status.success(), by == Signal::SIGTERM, "{status}");
        writer.more(100).await;
        child = start();
    }
    let written = writer.stop().await;
    let copies = eventually("everything is copied", async || {
        let copies = copies(&client).await;
        let seen: std::collections::HashSet<_> = copies.iter().copied().collect();
        written
            .iter()
            .all(|version| seen.contains(version))
            .then_some(copies)
    })
    .await;
    child.stop().await;
    Ok((written, copies))
}

#[tokio::test]
async fn sigterm_under_load_loses_nothing_and_repeats_nothing() -> TestResult {
    let (mut written, mut copies) = end_children_by(Signal::SIGTERM).await?;
    written.sort_unstable();
    copies.sort_unstable();
    assert_eq!(copies, written);
    Ok(())
}

#[tokio::test]
async fn sigkill_under_load_loses_nothing() -> TestResult {
    end_children_by(Signal::SIGKILL).await.map(drop)
}

#[tokio::test]
async fn a_second_signal_aborts_the_drain_and_the_event_comes_again() -> TestResult {
    let server = MongoServer::start().await?;
    let client = crate::support::client(&server.uri()).await;
    let one = Settings {
        permits: 1,
        ..Settings::default()
    };
    let mut child = Child::start(&server.uri(), one);
    wait_until_watching(&client).await;
    let orders = client.database("shop").collection::<Document>("orders");
    for id in 1_i64..4 {
        orders.insert_one(doc! { "_id": id, "n": id }).await?;
    }
    let hangs = async || (copies(&client).await.len() == 2).then_some(());
    eventually("the second event hangs", hangs).await;
    child.signal(Signal::SIGTERM);
    let second = eventually("the second signal ends it", async || {
        let ended = tokio::time::timeout(Duration::from_millis(100), child.wait()).await;
        if ended.is_err() {
            child.signal(Signal::SIGTERM);
        }
        ended.ok()
    });
    assert_eq!(second.await.code(), Some(ABORTED));

    let child = Child::start(&server.uri(), Settings::default());
    let rest = async || copies(&client).await.contains(&(3, 3)).then_some(());
    eventually("the rest is copied", rest).await;
    child.stop().await;
    let mut again = copies(&client).await.split_off(2);
    again.retain(|copy| *copy != (1, 1));
    assert_eq!(again, [(2, 2), (3, 3)]);
    Ok(())
}
