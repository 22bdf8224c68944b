//! G7 when the process is killed: effects in a `Transaction` happen once, and messages are sent at least once.

use std::{env, process::Stdio, sync::Arc, time::Duration};

use changestream::{Delivery, MemoryCheckpoints, RuntimeBuilder, prelude::*};
use changestream_testkit::MongoServer;
use mongodb::bson::{Document, doc};
use tokio::{
    process::{Child, Command},
    sync::Semaphore,
    time::Instant,
};
use tower::service_fn;

use crate::support::{
    Event, Scene, Seen, Started, TestResult,
    child::wait_until_watching,
    effect::{effect, effects},
    eventually,
};

/// What [`child`] watches.
const URI: &str = "CHANGESTREAM_TEST_CHILD_URI";
/// Set where its handler hangs after its writes.
const HANGS: &str = "CHANGESTREAM_TEST_CHILD_HANGS";

/// Not a test: the service that the tests below start as a process of its own, and kill.
#[test]
#[ignore = "the other tests run it"]
fn child() {
    let Ok(uri) = env::var(URI) else { return };
    let hangs = env::var_os(HANGS).is_some();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(async {
        let client = crate::support::client(&uri).await;
        let count = move |change: RawChange, mut transaction: Transaction| async move {
            let order = Event::of(&change, 1).id.expect("an id");
            effect(&mut transaction, order).await?;
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok::<_, HandlerError>(())
        };
        let spec = HandlerSpec::new("count", count).collections(["orders"]);
        let builder = Runtime::builder(client.database("shop")).name("test");
        let builder = builder.lease(Duration::from_secs(1));
        let builder = builder.handlers([spec.timeout(Duration::from_secs(3600))]);
        builder.build().expect("a runtime").run().await
    });
    if let Err(error) = ended {
        panic!("{}", crate::support::chain(&error));
    }
}

fn start_child(server: &MongoServer, hangs: bool) -> Child {
    let mut command = Command::new(env::current_exe().expect("this test's binary"));
    command.args([
        "--exact",
        "exactly_once_crash::child",
        "--ignored",
        "--nocapture",
    ]);
    command.env(URI, server.uri());
    if hangs {
        command.env(HANGS, "1");
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command.spawn().expect("a process")
}

#[tokio::test]
async fn kills_at_many_moments_repeat_no_effect_and_lose_none() -> TestResult {
    const KILLS: i64 = 15;
    const ORDERS: i64 = 30;
    let server = MongoServer::start().await?;
    let client = crate::support::client(&server.uri()).await;
    let shop = client.database("shop");
    let mut child = start_child(&server, false);
    wait_until_watching(&client).await;
    let orders = shop.collection::<Document>("orders");
    let mut seed = fastrand::Rng::with_seed(7);
    for kill in 0..KILLS {
        let ids = (0..ORDERS).map(|order| kill * ORDERS + order);
        orders
            .insert_many(ids.map(|id| doc! { "_id": id, "n": id }))
            .await?;
        let before = effects(&shop).await.len();
        let grown = async || (effects(&shop).await.len() > before).then_some(());
        eventually("the child works", grown).await;
        // The moment is what is varied; nothing is waited for.
        tokio::time::sleep(Duration::from_micros(seed.u64(0..20_000))).await;
        child.kill().await?;
        child = start_child(&server, false);
    }
    let expected = Vec::from_iter(0..KILLS * ORDERS);
    let all = async || (effects(&shop).await.len() >= expected.len()).then_some(());
    eventually("every effect", all).await;
    child.kill().await?;
    assert_eq!(effects(&shop).await, expected);
    Ok(())
}

#[tokio::test]
async fn a_transaction_left_open_by_a_kill_does_not_hold_up_the_next_process() -> TestResult {
    let server = MongoServer::start().await?;
    let client = crate::support::client(&server.uri()).await;
    let shop = client.database("shop");
    let mut child = start_child(&server, true);
    wait_until_watching(&client).await;
    let orders = shop.collection::<Document>("orders");
    orders.insert_one(doc! { "_id": 1_i64, "n": 1_i64 }).await?;
    let status = async || {
        let status = doc! { "serverStatus": 1 };
        let status = client.database("admin").run_command(status).await;
        let status = status.expect("the status");
        let transactions = status
            .get_document("transactions")
            .expect("of transactions");
        (transactions.get_i64("currentOpen").ok()? > 0).then_some(())
    };
    eventually("the child's transaction is open", status).await;
    child.kill().await?;
    let killed = Instant::now();
    let mut child = start_child(&server, false);
    let done = async || (effects(&shop).await == [1]).then_some(());
    eventually("the effect", done).await;
    assert!(
        killed.elapsed() < Duration::from_secs(50),
        "{:?}",
        killed.elapsed()
    );
    child.kill().await?;
    Ok(())
}

#[tokio::test]
async fn messages_of_a_committed_event_are_sent_after_a_crash() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let start = || {
        let (gate, sent) = (Arc::clone(&gate), Arc::clone(&sent));
        let sink = service_fn(move |delivery: Delivery| {
            let (gate, sent) = (Arc::clone(&gate), Arc::clone(&sent));
            async move {
                sent.lock()
                    .expect("no panic")
                    .push((delivery.id(), delivery.message().clone()));
                gate.acquire().await?.forget();
                Ok::<_, HandlerError>(())
            }
        });
        let handle =
            async |State(seen): State<Seen>, change: RawChange, mut transaction: Transaction| {
                let event = Event::of(&change, 1);
                effect(&mut transaction, event.id.expect("an id")).await?;
                seen.push(event);
                let first = Message::new("first", "text/plain")
                    .key("k")
                    .header("a", "b");
                Ok::<_, HandlerError>(vec![first, Message::new(vec![0, 255], "image/x")])
            };
        let spec = HandlerSpec::new("send", handle)
            .collections(["orders"])
            .to(["sink"]);
        let builder: RuntimeBuilder<Seen> = scene.runtime(&seen);
        let builder = builder.checkpoint_store(MemoryCheckpoints::default());
        Started::new(builder.sink("sink", sink).handlers([spec]))
    };
    let runtime = start();
    scene.insert([1]).await?;
    let sending = async |count| {
        let sent = Arc::clone(&sent);
        eventually("the messages are sent", async || {
            (sent.lock().expect("no panic").len() == count).then_some(())
        })
        .await;
    };
    sending(1).await;
    assert_eq!(effects(&scene.database).await, [1]);
    runtime.crash().await;

    gate.add_permits(2);
    let runtime = start();
    sending(3).await;
    runtime.stop().await?;
    let sent = sent.lock().expect("no panic").clone();
    assert_eq!(sent[0], sent[1]);
    assert_eq!(sent[1].1.headers()["a"], "b");
    assert_eq!(sent[1].1.get_key(), Some("k"));
    assert_eq!(&sent[2].1.payload()[..], [0, 255]);
    assert_eq!(sent[2].1.content_type(), "image/x");
    assert_eq!(seen.ids(), [1], "the handler is not called again");
    assert_eq!(effects(&scene.database).await, [1]);
    Ok(())
}
