use changestream::{Delivery, KafkaSink};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use rdkafka::{
    ClientConfig,
    error::KafkaResult,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
    util::Timeout,
};
use tokio::task::spawn_blocking;

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

pub(super) fn transactions(events: u64) -> Comparison {
    super::comparison(
        "records to Tansu, which keeps them in memory, in transactions of up to 512, one at a time",
        events,
        Some(Receiver::Kafka),
        AT_ONCE,
        Contestant::new("rdkafka-transactions", client_of_transactions),
        async |job: &Job| {
            let sink = KafkaSink::new(job.receiver()?, TOPIC)?;
            Ok(sink.option("transactional.id", "sink")?.into())
        },
    )
}

async fn client(job: Job) -> Result<Figures> {
    let deliveries = super::deliveries(job.events)?;
    let producer: FutureProducer = config(&job)?.create()?;
    let meter = Meter::start(&job.client).await?;
    stream::iter(deliveries)
        .map(|delivery| {
            let producer = &producer;
            async move { send(producer, &delivery).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    meter.stop(job.events).await
}

async fn client_of_transactions(job: Job) -> Result<Figures> {
    let deliveries = super::deliveries(job.events)?;
    let producer: FutureProducer = config(&job)?.set("transactional.id", "client").create()?;
    let initializing = producer.clone();
    spawn_blocking(move || initializing.init_transactions(Timeout::Never)).await??;
    let meter = Meter::start(&job.client).await?;
    for batch in deliveries.chunks(AT_ONCE / 2) {
        producer.begin_transaction()?;
        let sends = batch.iter().map(|delivery| send(&producer, delivery));
        try_join_all(sends).await?;
        let committing = producer.clone();
        spawn_blocking(move || committing.commit_transaction(Timeout::Never)).await??;
    }
    meter.stop(job.events).await
}

fn config(job: &Job) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", job.receiver()?)
        .set("enable.idempotence", "true")
        .set("linger.ms", "1");
    Ok(config)
}

async fn send(producer: &FutureProducer, delivery: &Delivery) -> KafkaResult<()> {
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
