//! The example of the Kafka sink runs.

use changestream_testkit::{KafkaServer, MongoServer};
use mongodb::bson::doc;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer, StreamConsumer},
};
use tokio::process::Command;

use crate::support::{TestResult, example, service, within};

const TOPIC: &str = "shop.orders";

#[tokio::test]
async fn the_example_sends_changes_of_orders() -> TestResult {
    let mongodb = MongoServer::start().await?;
    let kafka = KafkaServer::start().await?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap());
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&topic], &AdminOptions::new()).await?;
    assert_eq!(made, [Ok(TOPIC.to_owned())]);

    let mut example = Command::new(example::example("kafka_sink").await);
    example.env("KAFKA_BROKERS", kafka.bootstrap());
    let service = service::begun(example, &mongodb).await?;
    let shop = mongodb.client().await?.database("shop");
    let orders = shop.collection("orders");
    orders
        .insert_one(doc! { "_id": 1, "status": "created", "total": 9.5 })
        .await?;
    orders.delete_one(doc! { "_id": 1 }).await?;

    let consumer: StreamConsumer = config.set("group.id", "unused").create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
    consumer.assign(&partitions)?;
    for payload in [
        r#"{"operation":"stored","status":"created","total":9.5}"#,
        r#"{"operation":"deleted","status":null,"total":null}"#,
    ] {
        let message = within("a message", consumer.recv()).await?;
        assert_eq!(message.key(), Some(&b"1"[..]));
        assert_eq!(
            message.payload_view::<str>(),
            Some(Ok(payload)),
            "{message:?}"
        );
    }
    service::ends_well(service).await
}
