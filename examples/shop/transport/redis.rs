//! The cache: keys are removed, and a stream tells of it.

use changestream::{RedisSink, SinkSpec};
use redis::{AsyncCommands, Client, streams::StreamReadReply};
use tokio::task::JoinSet;

use super::{Audience, pause};
use crate::{Result, ledger::Arrival};

pub(super) async fn open(
    uri: &str,
    service: &'static str,
    audience: Audience,
    listeners: &mut JoinSet<()>,
) -> Result<SinkSpec> {
    let log = format!("{}:{service}", audience.run);
    let mut connection = Client::open(uri)?
        .get_multiplexed_async_connection()
        .await?;
    // A stale entry, to see it go.
    let () = connection.set("products:featured", "stale").await?;
    let sink = RedisSink::new(uri)?
        .unlink_payload()
        .stream(log.clone())?
        .max_len(10_000)?;
    listeners.spawn(async move {
        let mut last = "0".to_owned();
        loop {
            let read: redis::RedisResult<StreamReadReply> =
                connection.xread(&[&log], &[&last]).await;
            let entries = read.map(|reply| reply.keys).unwrap_or_default();
            for entry in entries.into_iter().flat_map(|stream| stream.ids) {
                let field = |name: &str| entry.get::<String>(name).unwrap_or_default();
                let arrival = Arrival::new(
                    service,
                    &field("id"),
                    &field("event_id"),
                    None,
                    field("payload").as_bytes(),
                );
                audience.ledger.take(arrival);
                last.clone_from(&entry.id);
            }
            pause().await;
        }
    });
    Ok(sink.into())
}
