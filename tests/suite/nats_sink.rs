//! The example of the NATS sink runs.

use async_nats::jetstream::{self, stream};
use changestream_testkit::{MongoServer, NatsServer};
use mongodb::bson::doc;
use tokio::process::Command;

use crate::support::{TestResult, eventually, example, service};

#[tokio::test]
async fn the_example_publishes_changes_of_orders() -> TestResult {
    let mongodb = MongoServer::start().await?;
    let nats = NatsServer::start().await?;
    let jetstream = jetstream::new(async_nats::connect(nats.uri()).await?);
    let config = stream::Config {
        name: "SHOP".into(),
        subjects: vec!["shop.>".into()],
        ..Default::default()
    };
    let mut stream = jetstream.create_stream(config).await?;

    let mut example = Command::new(example::example("nats_sink").await);
    example.env("NATS_URL", nats.uri());
    let service = service::begun(example, &mongodb).await?;
    let orders = mongodb
        .client()
        .await?
        .database("shop")
        .collection("orders");
    orders
        .insert_one(doc! { "_id": 1, "status": "created", "total": 9.5 })
        .await?;
    orders.delete_one(doc! { "_id": 1 }).await?;
    let both = async || {
        let state = &stream.info().await.expect("its state").state;
        (state.messages == 2).then_some(())
    };
    eventually("both messages", both).await;
    for (sequence, subject, payload) in [
        (
            1,
            "shop.orders.insert",
            &br#"{"status":"created","total":9.5}"#[..],
        ),
        (2, "shop.orders.delete", b"null"),
    ] {
        let message = stream.get_raw_message(sequence).await?;
        assert_eq!(message.subject.as_str(), subject);
        assert_eq!(message.payload, payload);
    }
    service::ends_well(service).await
}
