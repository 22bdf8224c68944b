//! G1: a network that fails in every way it can.

use std::time::Duration;

use changestream_testkit::{FaultProxy, MongoServer};
use mongodb::bson::doc;

use crate::support::{
    Scene, Seen, Started, TestResult,
    child::{Child, Settings, copies, wait_until_watching},
    client, eventually,
    preload::Names,
    recorder, within,
    writer::{Writer, assert_all_in_order},
};

/// Not a test: the service that a test below starts as a process of its own.
/// A server, and a runtime that only reaches it through a proxy.
struct Network {
    scene: Scene<MongoServer>,
    proxy: FaultProxy,
    seen: Seen,
    runtime: Started,
}

impl Network {
    async fn new() -> Self {
        let scene = Scene::own().await;
        let proxy = FaultProxy::start(scene.server.addr())
            .await
            .expect("a proxy");
        let through = client(&scene.server.uri_through(proxy.addr())).await;
        let seen = Seen::default();
        let runtime = scene.runtime_through(&through, &seen);
        let runtime = runtime.reply_timeout(Duration::from_secs(1));
        let runtime = Started::new(runtime.handlers([recorder(&["orders"])]));
        Self {
            scene,
            proxy,
            seen,
            runtime,
        }
    }

    fn writer(&self) -> Writer {
        Writer::start(self.scene.collection("orders"))
    }

    async fn finish(self, writer: Writer) -> TestResult {
        assert_all_in_order(&self.seen, &writer.stop().await).await;
        self.runtime.stop().await?;
        Ok(())
    }
}

#[tokio::test]
async fn cut_connections_cost_no_event() -> TestResult {
    let network = Network::new().await;
    let mut writer = network.writer();
    for _ in 0..5 {
        writer.more(50).await;
        network.proxy.cut().await;
    }
    writer.more(50).await;
    network.finish(writer).await
}

#[tokio::test]
async fn refused_connections_cost_no_event() -> TestResult {
    let network = Network::new().await;
    let mut writer = network.writer();
    writer.more(50).await;
    network.proxy.refuse().await;
    network.proxy.cut().await;
    writer.more(200).await;
    network.proxy.heal().await?;
    network.finish(writer).await
}

#[tokio::test]
async fn a_silent_network_costs_no_event() -> TestResult {
    let network = Network::new().await;
    let mut writer = network.writer();
    writer.more(50).await;
    network.seen.count(50).await;
    network.proxy.black_hole().await?;
    writer.more(200).await;
    // Past the reply timeout, so that a new connection is tried and is met with silence too.
    tokio::time::sleep(Duration::from_secs(3)).await;
    network.proxy.heal().await?;
    network.finish(writer).await
}

#[tokio::test]
async fn connections_that_died_unnoticed_cost_no_event() -> TestResult {
    let network = Network::new().await;
    let mut writer = network.writer();
    for _ in 0..2 {
        let handled = network.seen.events().len();
        writer.more(50).await;
        network.seen.count(handled + 20).await;
        network.proxy.strand().await?;
    }
    writer.more(50).await;
    let checkpoint = network.scene.checkpoint().await;
    let saved = async || (network.scene.checkpoint().await != checkpoint).then_some(());
    crate::support::eventually("checkpoints are saved again", saved).await;
    network.finish(writer).await
}

#[tokio::test]
async fn lost_replies_cost_no_event() -> TestResult {
    let network = Network::new().await;
    let mut writer = network.writer();
    for _ in 0..3 {
        let handled = network.seen.events().len();
        writer.more(50).await;
        network.seen.count(handled + 20).await;
        network.proxy.drop_replies().await?;
        writer.more(50).await;
        network.proxy.heal().await?;
    }
    network.finish(writer).await
}

#[tokio::test]
async fn a_slow_network_costs_no_event() -> TestResult {
    let network = Network::new().await;
    let mut writer = network.writer();
    network.proxy.delay(Duration::from_millis(100)).await?;
    writer.more(200).await;
    network.finish(writer).await
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_silent_server() -> TestResult {
    let scene = Scene::own().await;
    let proxy = FaultProxy::start(scene.server.addr()).await?;
    let through = client(&scene.server.uri_through(proxy.addr())).await;
    let seen = Seen::default();
    let memory = changestream::MemoryCheckpoints::default();
    let runtime = scene
        .runtime_through(&through, &seen)
        .checkpoint_store(memory);
    let runtime = Started::new(runtime.handlers([recorder(&["orders"])]));
    scene.insert([1]).await?;
    seen.all([1]).await;
    proxy.black_hole().await?;
    let stopping = tokio::time::timeout(Duration::from_secs(20), runtime.stop());
    stopping.await.expect("in time")?;
    Ok(())
}

#[tokio::test]
async fn a_stream_and_its_pings_share_a_small_pool() -> TestResult {
    let scene = Scene::own().await;
    let narrow = client(&format!("{}&maxPoolSize=2", scene.server.uri())).await;
    let seen = Seen::default();
    let runtime = scene.runtime_through(&narrow, &seen);
    let runtime = Started::new(runtime.handlers([recorder(&["orders"])]));
    scene.insert(0..20).await?;
    seen.count(20).await;
    let admin = narrow.database("admin");
    let ping = admin.run_command(doc! { "ping": 1 });
    within("a pong", ping.into_future()).await?;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_lost_for_a_while_costs_no_event() -> TestResult {
    let server = MongoServer::start().await?;
    let proxy = FaultProxy::start(server.addr()).await?;
    let names = Names::build();
    let port = proxy.addr().port();
    // The driver does not sit it out by itself.
    let options = "directConnection=true&serverSelectionTimeoutMS=100";
    let uri = format!("mongodb://localhost:{port}/?{options}");
    let child = Child::start_with(&uri, Settings::default(), names.environment());
    let client = client(&server.uri()).await;
    wait_until_watching(&client).await;
    let orders = client.database("shop").collection("orders");
    let copied = async |id: i64| {
        eventually("it is copied", async || {
            copies(&client).await.contains(&(id, id)).then_some(())
        })
        .await;
    };
    orders.insert_one(doc! { "_id": 1_i64, "n": 1_i64 }).await?;
    copied(1).await;

    names.lose();
    proxy.cut().await;
    eventually("it looks for the name again and again", async || {
        (names.missed() > 5).then_some(())
    })
    .await;
    orders.insert_one(doc! { "_id": 2_i64, "n": 2_i64 }).await?;
    names.find();
    copied(2).await;
    child.stop().await;
    Ok(())
}
