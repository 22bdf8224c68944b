//! An oplog that forgets.

use changestream_testkit::MongoServer;
use mongodb::bson::{Document, Timestamp, doc};

use super::{Scene, after, eventually};

/// A server with an oplog so small that it can be rolled over.
pub(crate) async fn forgetful_scene() -> Scene<MongoServer> {
    // The server keeps what a checkpoint of its storage engine does not hold yet: one every second.
    let server = MongoServer::builder().oplog_size_mb(1).arg("--syncdelay=1");
    let server = server.start().await.expect("a server");
    let uri = server.uri().to_owned();
    Scene::on(server, &uri).await
}

/// Writes until the oplog holds nothing of what was written so far.
pub(crate) async fn roll_over<S>(scene: &Scene<S>) {
    let filler = scene.collection("filler");
    let oplog = scene
        .client
        .database("local")
        .collection::<Document>("oplog.rs");
    let now = after(&scene.client).await.0;
    let oldest = async || -> Option<Timestamp> {
        // It may be forgotten while it is read, which is then an error.
        let oldest = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await;
        oldest.ok()??.get_timestamp("ts").ok()
    };
    eventually("the oplog rolls over", async || {
        let documents = (0..16).map(|_| doc! { "x": "x".repeat(1 << 17) });
        filler.insert_many(documents).await.expect("written");
        (oldest().await? > now).then_some(())
    })
    .await;
}
