use async_nats::{
    HeaderMap,
    jetstream::{
        self, Context,
        context::PublishErrorKind,
        stream::{Config, StorageType},
    },
};
use changestream::NatsSink;
use futures::{StreamExt, TryStreamExt, stream::iter};

use crate::{
    Figures, Result,
    comparison::{Comparison, Contestant, Job},
    measure::Meter,
    receiver::Receiver,
};

/// What a sink has under way by default.
const AT_ONCE: usize = 512;

pub(super) fn comparison(events: u64) -> Comparison {
    super::comparison(
        "messages to a JetStream stream in memory, 512 at a time",
        events,
        Some(Receiver::Nats),
        AT_ONCE,
        Contestant::new("async-nats", client),
        async |job: &Job| {
            let (_, stream) = stream(job).await?;
            Ok(NatsSink::jetstream(job.receiver()?, stream)?.into())
        },
    )
}

/// A stream for this process alone, which takes the subject of its name. Another one would drop as repeats what it has had
/// from another process.
async fn stream(job: &Job) -> Result<(Context, String)> {
    let context = jetstream::new(async_nats::connect(job.receiver()?).await?);
    let name = format!("items_{}", std::process::id());
    let config = Config {
        name: name.clone(),
        subjects: vec![name.clone()],
        // A disk would be all that is measured.
        storage: StorageType::Memory,
        ..Default::default()
    };
    context.create_stream(config).await?;
    Ok((context, name))
}

async fn client(job: Job) -> Result<Figures> {
    let deliveries = super::deliveries(job.events)?;
    let (context, stream) = stream(&job).await?;
    let meter = Meter::start(&job.client).await?;
    iter(deliveries)
        .map(|delivery| {
            let message = delivery.message();
            let (id, event_id) = (delivery.id(), delivery.event_id().to_string());
            let mut headers = HeaderMap::new();
            let (runtime, sink) = (delivery.runtime(), delivery.sink());
            headers.insert("Nats-Msg-Id", format!("{runtime}/{sink}/{id}"));
            headers.insert("Idempotency-Key", id);
            headers.insert("X-Event-ID", event_id.as_str());
            headers.insert("X-Event-Source", delivery.runtime());
            headers.insert("X-Correlation-ID", event_id);
            headers.insert("Content-Type", message.content_type());
            let sent =
                context.publish_with_headers(stream.clone(), headers, message.payload().clone());
            async { sent.await?.await }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(async |ack| match ack.duplicate {
            false => Ok(()),
            true => Err(PublishErrorKind::Other.into()),
        })
        .await?;
    meter.stop(job.events).await
}
