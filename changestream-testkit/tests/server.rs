//! One server through its life.

use std::time::{Duration, Instant};

use changestream_testkit::{Error, MongoServer, ServerVersion, TestServer, Version};
use mongodb::{
    Client,
    bson::{Document, doc},
    change_stream::{ChangeStream, event::ChangeStreamEvent},
    options::WriteConcern,
};

async fn next(
    changes: &mut ChangeStream<ChangeStreamEvent<Document>>,
) -> ChangeStreamEvent<Document> {
    loop {
        if let Some(change) = changes.next_if_any().await.unwrap() {
            return change;
        }
    }
}

#[tokio::test]
async fn starts_with_change_streams() {
    let begin = Instant::now();
    let server = MongoServer::start().await.unwrap();
    eprintln!("started in {:?}", begin.elapsed());
    assert!(server.version() >= Version::new(4, 4, 0));

    let client = server.client().await.unwrap();
    let things = client.database("shop").collection::<Document>("things");
    let mut changes = things.watch().await.unwrap();
    things.insert_one(doc! { "_id": 1 }).await.unwrap();
    let change = next(&mut changes).await;
    assert_eq!(change.full_document, Some(doc! { "_id": 1 }));
}

#[tokio::test]
async fn keeps_data_and_port_through_a_crash_and_the_client_reconnects() {
    let server = MongoServer::start().await.unwrap();
    let port = server.port();
    let client = server.client().await.unwrap();
    let things = client.database("shop").collection::<Document>("things");
    things
        .insert_one(doc! { "_id": 1 })
        .write_concern(WriteConcern::majority())
        .await
        .unwrap();

    server.kill().await.unwrap();
    let error = server.step_down().await.unwrap_err();
    assert!(matches!(error, Error::NotRunning { .. }), "{error}");

    let begin = Instant::now();
    server.restart().await.unwrap();
    eprintln!("restarted in {:?}", begin.elapsed());
    assert_eq!(server.port(), port);
    let found = things.find_one(doc! {}).await.unwrap();
    assert_eq!(found, Some(doc! { "_id": 1 }));
}

#[tokio::test]
async fn becomes_writable_again_after_it_stepped_down() {
    let server = MongoServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    let things = client.database("shop").collection::<Document>("things");
    server.step_down().await.unwrap();
    let hello = server.admin_command(doc! { "hello": 1 }).await.unwrap();
    assert!(!hello.get_bool("isWritablePrimary").unwrap());

    server.wait_until_writable().await.unwrap();
    things.insert_one(doc! {}).await.unwrap();
}

#[tokio::test]
async fn a_standalone_refuses_change_streams() {
    let server = MongoServer::builder().standalone().start().await.unwrap();
    let client = server.client().await.unwrap();
    let error = client.database("shop").watch().await.unwrap_err();
    assert!(error.to_string().contains("replica sets"), "{error}");
}

#[tokio::test]
async fn the_oplog_can_be_as_small_as_a_megabyte() {
    let builder = MongoServer::builder().oplog_size_mb(1);
    let server = builder.start().await.unwrap();
    let client = server.client().await.unwrap();
    let local = client.database("local");
    let stats = local
        .run_command(doc! { "collStats": "oplog.rs" })
        .await
        .unwrap();
    assert_eq!(stats.get_i32("maxSize").unwrap(), 1 << 20);
}

#[tokio::test]
async fn the_cache_has_the_size_that_was_asked_for() {
    for (builder, size) in [
        (MongoServer::builder(), 1_i64 << 29),
        (MongoServer::builder().cache_size_gb(0.75), 3 << 28),
    ] {
        let server = builder.start().await.unwrap();
        let status = doc! { "serverStatus": 1 };
        let status = server.admin_command(status).await.unwrap();
        let cache = status.get_document("wiredTiger").unwrap();
        let cache = cache.get_document("cache").unwrap();
        let configured = cache.get("maximum bytes configured").unwrap();
        let configured = configured.as_i64().or(configured.as_i32().map(i64::from));
        assert_eq!(configured, Some(size));
    }
}

#[tokio::test]
async fn a_wrong_argument_is_shown_with_the_log() {
    let builder = MongoServer::builder().arg("--noSuchArgument");
    let error = builder.start().await.unwrap_err();
    assert!(matches!(error, Error::Died { .. }), "{error}");
    assert!(error.to_string().contains("noSuchArgument"), "{error}");
}

#[tokio::test]
async fn nothing_listens_after_drop() {
    let server = MongoServer::start().await.unwrap();
    let addr = server.addr();
    drop(server);
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[tokio::test]
async fn survives_the_thread_that_started_it() {
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(MongoServer::start()).unwrap()
    };
    let server = std::thread::spawn(start).join().unwrap();
    let hello = server.admin_command(doc! { "hello": 1 }).await.unwrap();
    assert!(hello.get_bool("isWritablePrimary").unwrap());
}

#[tokio::test]
async fn the_oldest_version_starts() {
    let builder = MongoServer::builder().version(ServerVersion::V4_4);
    let server = builder.start().await.unwrap();
    assert_eq!(server.version(), Version::new(4, 4, 2));
    let client = server.client().await.unwrap();
    let mut changes = client.database("shop").watch().await.unwrap();
    let things = client.database("shop").collection::<Document>("things");
    things.insert_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(
        next(&mut changes).await.full_document,
        Some(doc! { "_id": 1 })
    );
}

#[tokio::test]
async fn database_names_are_unique() {
    let server = TestServer::from_env_or_start().await.unwrap();
    let names = [(); 2].map(|()| server.unique_database("shop"));
    assert_ne!(names[0], names[1]);
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("shop_") && name.len() < 64)
    );
    assert!(server.version().await.unwrap() >= Version::new(4, 4, 0));
}

#[tokio::test]
async fn is_usable_from_spawned_tasks() {
    let server = std::sync::Arc::new(MongoServer::start().await.unwrap());
    let shared = server.clone();
    let restarted = tokio::spawn(async move { shared.restart().await });
    let patience = Duration::from_secs(120);
    tokio::time::timeout(patience, restarted)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_server_with_authorization_lets_in_users_only() {
    let server = MongoServer::builder().authorized().start().await.unwrap();
    let stranger = format!("mongodb://{}/?directConnection=true", server.addr());
    let stranger = Client::with_uri_str(stranger).await.unwrap();
    let refused = stranger.database("shop").list_collection_names().await;
    assert!(refused.is_err());
    let admin = server.client().await.unwrap();
    admin
        .database("shop")
        .list_collection_names()
        .await
        .unwrap();
    server.kill().await.unwrap();
    server.restart().await.unwrap();
}
