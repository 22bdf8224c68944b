//! The examples run.

use changestream::MongoCheckpoints;
use changestream_testkit::{MongoServer, RedisServer};
use mongodb::bson::{Document, doc};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{net::TcpListener, process::Command};

use crate::support::{
    TestResult, eventually, example::example, service::sends_status_changes, within,
};

#[tokio::test]
async fn those_without_a_server_succeed() -> TestResult {
    for name in [
        "custom_layer",
        "custom_sink",
        "custom_extractor",
        "search_index",
        "unit_test_a_handler",
    ] {
        let output = within(name, Command::new(example(name).await).output()).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {stderr}");
    }
    Ok(())
}

#[tokio::test]
async fn the_quickstart_sends_status_changes() -> TestResult {
    let server = MongoServer::start().await?;
    let receiver = TcpListener::bind("127.0.0.1:0").await?;
    let mut quickstart = Command::new(example("quickstart").await);
    quickstart.env("MONGODB_URI", server.uri()).env(
        "FULFILLMENT_URL",
        format!("http://{}/orders/events", receiver.local_addr()?),
    );
    sends_status_changes(quickstart, &server, &receiver).await
}

#[tokio::test]
async fn the_exactly_once_example_counts_what_was_inserted() -> TestResult {
    let server = MongoServer::start().await?;
    let mut example = Command::new(example("exactly_once").await);
    example.env("MONGODB_URI", server.uri());
    let mut service = example.kill_on_drop(true).spawn()?;
    let shop = crate::support::client(&server.uri()).await.database("shop");
    let [checkpoints, orders, totals] =
        [MongoCheckpoints::COLLECTION, "orders", "totals"].map(|name| shop.collection(name));
    let begun = doc! { "kind": { "$exists": true } };
    let watching = async || checkpoints.find_one(begun.clone()).await.expect("read");
    eventually("it watches", watching).await;
    for _ in 0..3 {
        orders
            .insert_one(doc! { "customer": "Acme", "total": 2.5 })
            .await?;
    }
    let counted = async || {
        let total: Option<Document> = totals.find_one(doc! {}).await.expect("read");
        total.filter(|total| matches!(total.get_i32("orders"), Ok(3)))
    };
    let total = eventually("it counts", counted).await;
    assert_eq!(total, doc! { "_id": "Acme", "orders": 3, "total": 7.5 });
    let pid = service.id().ok_or("the example has ended")?;
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
    let status = within("the example's end", service.wait()).await?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn the_redis_example_keeps_a_cache_right() -> TestResult {
    let (server, cache) = tokio::try_join!(MongoServer::start(), RedisServer::start())?;
    let mut example = Command::new(example("redis_sink").await);
    example
        .env("MONGODB_URI", server.uri())
        .env("REDIS_URL", cache.uri());
    let mut service = example.kill_on_drop(true).spawn()?;
    let shop = crate::support::client(&server.uri()).await.database("shop");
    let [checkpoints, products] =
        [MongoCheckpoints::COLLECTION, "products"].map(|name| shop.collection::<Document>(name));
    let begun = doc! { "kind": { "$exists": true } };
    let watching = async || checkpoints.find_one(begun.clone()).await.expect("read");
    eventually("it watches", watching).await;

    let client = redis::Client::open(cache.uri())?;
    let client = client.get_multiplexed_async_connection().await?;
    let get = async |key: &str| {
        let mut get = redis::cmd("GET");
        let got = get.arg(key).query_async(&mut client.clone()).await;
        got.unwrap_or_else(|error| panic!("GET {key}: {error}"))
    };
    let mut stale = redis::cmd("MSET");
    stale.arg(&["products:featured", "7", "products:search:rope", "7"]);
    stale.exec_async(&mut client.clone()).await?;
    products
        .insert_one(doc! { "_id": 7, "name": "Rope", "category": "toys", "price": 2.5 })
        .await?;
    let written: String = eventually("it writes", async || get("product:7").await).await;
    assert_eq!(written, r#"{"name":"Rope","category":"toys","price":2.5}"#);
    for key in ["products:featured", "products:search:rope"] {
        assert_eq!(get(key).await, None::<String>, "{key}");
    }
    products.delete_one(doc! { "_id": 7 }).await?;
    let removed = async || get("product:7").await.map_or(Some(()), |_: String| None);
    eventually("it removes", removed).await;

    let pid = service.id().ok_or("the example has ended")?;
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
    let status = within("the example's end", service.wait()).await?;
    assert!(status.success(), "{status}");
    Ok(())
}
