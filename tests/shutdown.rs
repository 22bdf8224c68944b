//! G10: shutdown drains, commits and returns; whatever ends it early loses nothing.

mod support;

use std::{env, process::Stdio, sync::Arc, time::Duration};

use changestream::{MongoCheckpoints, prelude::*};
use changestream_testkit::MongoServer;
use mongodb::{
    Client,
    bson::{Document, doc},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::{
    Event, Scene, Seen, Started, TestResult, eventually, recorder, within, writer::Writer,
};
use tokio::{
    process::{Child, Command},
    sync::Semaphore,
};

/// A handler that notes an event and then waits for a permit.
fn gated(gate: &Arc<Semaphore>) -> HandlerSpec<Seen> {
    let gate = Arc::clone(gate);
    let handle = move |State(seen): State<Seen>, change: RawChange| {
        let gate = Arc::clone(&gate);
        async move {
            seen.push(Event::of(&change, 1));
            gate.acquire().await?.forget();
            Ok::<_, HandlerError>(())
        }
    };
    HandlerSpec::new("gated", handle)
        .collections(["orders"])
        .timeout(Duration::from_secs(3600))
}

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
    tokio::time::timeout(Duration::from_secs(5), runtime.stop())
        .await
        .expect("quick")?;
    Ok(())
}

/// What [`child`] watches.
const URI: &str = "CHANGESTREAM_TEST_CHILD_URI";
/// How many of its events get through; the next one hangs.
const PERMITS: &str = "CHANGESTREAM_TEST_CHILD_PERMITS";
const ABORTED: i32 = 3;

/// Not a test: the service that the tests below start as a process of its own. It copies what it handles to
/// another database.
#[test]
#[ignore = "the other tests run it"]
fn child() {
    let Ok(uri) = env::var(URI) else { return };
    let permits = env::var(PERMITS).map_or(Semaphore::MAX_PERMITS, |permits| {
        permits.parse().expect("a number")
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(async {
        let client = support::client(&uri).await;
        let copies = client.database("copies").collection::<Document>("orders");
        let gate = Arc::new(Semaphore::new(permits));
        let copy = move |change: RawChange| {
            let (copies, gate) = (copies.clone(), Arc::clone(&gate));
            async move {
                let event = Event::of(&change, 1);
                copies
                    .insert_one(doc! { "id": event.id, "n": event.n })
                    .await?;
                gate.acquire().await?.forget();
                Ok::<_, HandlerError>(())
            }
        };
        let spec = HandlerSpec::new("copy", copy).collections(["orders"]);
        let builder = Runtime::builder(client.database("shop")).name("test");
        let builder = builder
            .concurrency(1)
            .handlers([spec.timeout(Duration::from_secs(3600))]);
        builder.build().expect("a runtime").run().await
    });
    match ended {
        Ok(()) => {}
        Err(error) if error.is_aborted() => std::process::exit(ABORTED),
        Err(error) => panic!("{}", support::chain(&error)),
    }
}

fn start_child(server: &MongoServer, permits: Option<usize>) -> Child {
    let mut command = Command::new(env::current_exe().expect("this test's binary"));
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    command.env(URI, server.uri());
    if let Some(permits) = permits {
        command.env(PERMITS, permits.to_string());
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command.spawn().expect("a process")
}

fn signal(child: &Child, signal: Signal) {
    let id = child.id().expect("it runs");
    kill(Pid::from_raw(id.try_into().expect("a process id")), signal).expect("signalled");
}

async fn copies(client: &Client) -> Vec<(i64, i64)> {
    use futures::TryStreamExt;
    let copies = client.database("copies").collection::<Document>("orders");
    let copies: Vec<_> = copies
        .find(doc! {})
        .await
        .expect("read")
        .try_collect()
        .await
        .expect("read");
    let integer = |copy: &Document, key| copy.get_i64(key).expect("a number");
    copies
        .iter()
        .map(|copy| (integer(copy, "id"), integer(copy, "n")))
        .collect()
}

async fn wait_until_watching(client: &Client) {
    let checkpoints = client
        .database("shop")
        .collection::<Document>(MongoCheckpoints::COLLECTION);
    eventually("the child watches", async || {
        checkpoints.find_one(doc! {}).await.expect("read")
    })
    .await;
}

/// Sends this signal to one child after the other, under load.
async fn end_children_by(
    by: Signal,
) -> Result<(Vec<(i64, i64)>, Vec<(i64, i64)>), support::BoxError> {
    let server = MongoServer::start().await?;
    let client = support::client(&server.uri()).await;
    let mut child = start_child(&server, None);
    wait_until_watching(&client).await;
    let mut writer = Writer::start(client.database("shop").collection("orders"));
    for _ in 0..3 {
        writer.more(100).await;
        eventually("the child copies", async || {
            (!copies(&client).await.is_empty()).then_some(())
        })
        .await;
        signal(&child, by);
        let status = within("the child ends", child.wait()).await?;
        assert_eq!(status.success(), by == Signal::SIGTERM, "{status}");
        writer.more(100).await;
        child = start_child(&server, None);
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
    signal(&child, Signal::SIGTERM);
    assert!(within("the child ends", child.wait()).await?.success());
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
    let client = support::client(&server.uri()).await;
    let mut child = start_child(&server, Some(1));
    wait_until_watching(&client).await;
    let orders = client.database("shop").collection::<Document>("orders");
    for id in 1_i64..4 {
        orders.insert_one(doc! { "_id": id, "n": id }).await?;
    }
    let hangs = async || (copies(&client).await.len() == 2).then_some(());
    eventually("the second event hangs", hangs).await;
    signal(&child, Signal::SIGTERM);
    let second = eventually("the second signal ends it", async || {
        let ended = tokio::time::timeout(Duration::from_millis(100), child.wait()).await;
        if ended.is_err() {
            signal(&child, Signal::SIGTERM);
        }
        ended.ok()
    });
    assert_eq!(second.await?.code(), Some(ABORTED));

    let mut child = start_child(&server, None);
    let rest = async || copies(&client).await.contains(&(3, 3)).then_some(());
    eventually("the rest is copied", rest).await;
    signal(&child, Signal::SIGTERM);
    assert!(within("the child ends", child.wait()).await?.success());
    let mut again = copies(&client).await.split_off(2);
    again.retain(|copy| *copy != (1, 1));
    assert_eq!(again, [(2, 2), (3, 3)]);
    Ok(())
}
