use changestream::RedisSink;
use redis::{Client, pipe};

use crate::{
    Figures, Result,
    comparison::{Comparison, Contestant, Job},
    measure::Meter,
    receiver::Receiver,
};

/// What a sink sends at once.
const BATCH: usize = 512;

pub(super) fn comparison(events: u64) -> Comparison {
    super::comparison(
        "`SET` of a key for each event, 512 in a pipeline",
        events,
        Some(Receiver::Redis),
        2 * BATCH,
        Contestant::new("redis", client),
        async |job: &Job| {
            let sink = RedisSink::new(job.receiver()?)?;
            Ok(sink.set("item:{document_key._id}")?.into())
        },
    )
}

async fn client(job: Job) -> Result<Figures> {
    let deliveries = super::deliveries(job.events)?;
    let client = Client::open(job.receiver()?)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let meter = Meter::start(&job.client).await?;
    for batch in deliveries.chunks(BATCH) {
        let mut commands = pipe();
        for delivery in batch {
            let message = delivery.message();
            let key = format!("item:{}", message.get_key().unwrap_or_default());
            commands.set(key, &message.payload()[..]).ignore();
        }
        commands.exec_async(&mut connection).await?;
    }
    meter.stop(job.events).await
}
