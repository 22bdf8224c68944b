//! A stream of JetStream for those who follow parcels.

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    stream,
};
use changestream::{NatsSink, SinkSpec};
use futures::StreamExt;
use tokio::task::JoinSet;

use super::{Audience, pause};
use crate::{Result, ledger::Arrival};

pub(super) async fn open(
    uri: &str,
    service: &'static str,
    audience: Audience,
    listeners: &mut JoinSet<()>,
) -> Result<SinkSpec> {
    let subject = format!("{}.{service}", audience.run);
    let jetstream = jetstream::new(async_nats::connect(uri).await?);
    let stream = stream::Config {
        name: audience.run.clone(),
        subjects: vec![format!("{subject}.>")],
        ..stream::Config::default()
    };
    let stream = jetstream.create_stream(stream).await?;
    let consumer = pull::Config {
        ack_policy: AckPolicy::None,
        deliver_policy: DeliverPolicy::All,
        ..pull::Config::default()
    };
    let consumer: PullConsumer = stream.create_consumer(consumer).await?;
    let sink = NatsSink::jetstream(uri, format!("{subject}.{{collection}}.{{operation}}"))?;
    listeners.spawn(async move {
        loop {
            let Ok(mut messages) = consumer.messages().await else {
                pause().await;
                continue;
            };
            while let Some(Ok(message)) = messages.next().await {
                let header = |name: &str| {
                    let headers = message.headers.as_ref();
                    let value = headers.and_then(|headers| headers.get(name));
                    value.map(ToString::to_string).unwrap_or_default()
                };
                let correlation = header("X-Correlation-ID");
                let arrival = Arrival::new(
                    service,
                    &header("Idempotency-Key"),
                    &header("X-Event-ID"),
                    Some(&correlation),
                    &message.payload,
                );
                audience.ledger.take(arrival);
            }
        }
    });
    Ok(sink.into())
}
