//! A topic for those who analyse customers.

use changestream::{KafkaSink, SinkSpec};
use rdkafka::{
    ClientConfig, Message as _,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{Consumer, StreamConsumer},
    message::{Headers, OwnedMessage},
};
use tokio::task::JoinSet;

use super::{Audience, pause};
use crate::{Result, ledger::Arrival};

pub(super) async fn open(
    brokers: &str,
    service: &'static str,
    audience: Audience,
    listeners: &mut JoinSet<()>,
) -> Result<SinkSpec> {
    let topic = format!("{}-customer-events", audience.run);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let admin: AdminClient<_> = config.create()?;
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await?;
    let consumer: StreamConsumer = config
        .set("group.id", &audience.run)
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[&topic])?;
    let sink = KafkaSink::new(brokers, topic)?;
    listeners.spawn(async move {
        loop {
            match consumer.recv().await {
                Ok(record) => audience.ledger.take(arrival(service, &record.detach())),
                Err(_) => pause().await,
            }
        }
    });
    Ok(sink.into())
}

fn arrival(service: &str, record: &OwnedMessage) -> Result<Arrival, String> {
    let header = |name: &str| {
        let mut headers = record.headers().into_iter().flat_map(Headers::iter);
        let header = headers.find(|header| header.key == name);
        let value = header.and_then(|header| header.value).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let correlation = header("correlation-id");
    let payload = record.payload().unwrap_or_default();
    Arrival::new(
        service,
        &header("id"),
        &header("event-id"),
        Some(&correlation),
        payload,
    )
}
