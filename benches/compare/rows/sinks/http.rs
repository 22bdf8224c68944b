use changestream::HttpSink;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Client;

use crate::{
    Figures, Result,
    comparison::{Comparison, Contestant, Job},
    measure::Meter,
    receiver::Receiver,
};

/// What a sink has under way by default.
const AT_ONCE: usize = 64;

pub(super) fn comparison(events: u64) -> Comparison {
    super::comparison(
        "POSTs to a receiver on this machine, 64 at a time",
        events,
        Some(Receiver::Http),
        AT_ONCE,
        Contestant::new("reqwest", client),
        async |job: &Job| Ok(HttpSink::new(url(job)?)?.into()),
    )
}

async fn client(job: Job) -> Result<Figures> {
    let deliveries = super::deliveries(job.events)?;
    // The client wants one, whether there is TLS or not.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "another provider is there already")?;
    let (client, url) = (Client::new(), url(&job)?);
    let meter = Meter::start(&job.client).await?;
    stream::iter(deliveries)
        .map(|delivery| {
            let message = delivery.message();
            let event_id = delivery.event_id().to_string();
            let request = client
                .post(&url)
                .header("X-Event-ID", &event_id)
                .header("X-Event-Source", delivery.runtime())
                .header("X-Correlation-ID", &event_id)
                .header("Idempotency-Key", delivery.id())
                .header("Content-Type", message.content_type())
                .body(message.payload().clone());
            async {
                request.send().await?.error_for_status()?;
                Ok::<_, reqwest::Error>(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    meter.stop(job.events).await
}

/// Where the answer comes at once.
fn url(job: &Job) -> Result<String> {
    Ok(format!("{}0", job.receiver()?))
}
