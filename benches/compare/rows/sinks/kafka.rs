use changestream::KafkaSink;
use futures::{StreamExt, TryStreamExt, stream};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};

use crate::{
    Figures, Result,
    comparison::{Comparison, Contestant, Job},
    measure::Meter,
    receiver::{Receiver, TOPIC},
};

/// What a sink has under way by default.
const AT_ONCE: usize = 1_024;

pub(super) fn comparison(events: u64) -> Comparison {
    super::comparison(
        "records to Tansu, which keeps them in memory, by idempotent producers, 1,024 at a time",
        events,
        Some(Receiver::Kafka),
        AT_ONCE,
        Contestant::new("rdkafka", client),
        async |job: &Job| Ok(KafkaSink::new(job.receiver()?, TOPIC)?.into()),
    )
}

async fn client(job: Job) -> Result<Figures> {
    let deliveries = super::deliveries(job.events)?;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", job.receiver()?)
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()?;
    let meter = Meter::start(&job.client).await?;
    stream::iter(deliveries)
        .map(|delivery| {
            let producer = &producer;
            async move {
                let message = delivery.message();
                let (id, event_id) = (delivery.id(), delivery.event_id().to_string());
                let headers = [
                    ("id", &*id),
                    ("event-id", &event_id),
                    ("source", delivery.runtime()),
                    ("content-type", message.content_type()),
                    ("correlation-id", &event_id),
                ];
                let headers = headers.iter().fold(
                    OwnedHeaders::new_with_capacity(headers.len()),
                    |headers, (key, value)| {
                        let value = Some(*value);
                        headers.insert(Header { key, value })
                    },
                );
                let record = FutureRecord::to(TOPIC)
                    .key(message.get_key().unwrap_or_default())
                    .payload(&message.payload()[..])
                    .headers(headers);
                let sent = producer.send(record, Timeout::Never).await;
                sent.map(drop).map_err(|(error, _)| error)
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    meter.stop(job.events).await
}
