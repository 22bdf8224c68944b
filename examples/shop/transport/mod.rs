//! The services that listen elsewhere than to HTTP, where there is a server of that kind.

mod kafka;
mod nats;
mod redis;

use std::{env, sync::Arc, time::Duration};

use changestream::SinkSpec;
use tokio::task::JoinSet;

use crate::{Result, ledger::Ledger};

/// What each of them is reached by, and the variable that says where.
const TRANSPORTS: [(&str, &str, &str); 3] = [
    ("analytics-service", "Kafka", "KAFKA_BROKERS"),
    ("cache-service", "Redis", "REDIS_URI"),
    ("tracking-service", "NATS", "NATS_URI"),
];

/// Services that are reached otherwise than by HTTP, and what listens there.
#[derive(Debug, Default)]
pub(crate) struct Transports {
    sinks: Vec<(&'static str, SinkSpec)>,
    listeners: JoinSet<()>,
}

/// What all that listens tells, and what is peculiar to this run, so that two on one server are apart.
#[derive(Clone)]
struct Audience {
    ledger: Arc<Ledger>,
    run: String,
}

impl Transports {
    /// Those that there is a server for; says which are left out.
    pub(crate) async fn open(ledger: &Arc<Ledger>, run: &str) -> Result<Self> {
        let mut transports = Self::default();
        for (service, transport, variable) in TRANSPORTS {
            let Some(address) = env::var(variable)
                .ok()
                .filter(|address| !address.is_empty())
            else {
                println!(
                    "{service} is reached by HTTP, for lack of {transport}: {variable} is not set."
                );
                continue;
            };
            let audience = Audience {
                ledger: Arc::clone(ledger),
                run: run.to_owned(),
            };
            let listeners = &mut transports.listeners;
            let sink = match transport {
                "Kafka" => kafka::open(&address, service, audience, listeners).await,
                "Redis" => redis::open(&address, service, audience, listeners).await,
                _ => nats::open(&address, service, audience, listeners).await,
            };
            let sink =
                sink.map_err(|error| format!("{transport}, as {variable} names it: {error}"))?;
            println!("{service} is reached by {transport}.");
            transports.sinks.push((service, sink));
        }
        Ok(transports)
    }

    /// The sink of a service, where it is one of these.
    pub(crate) fn take(&mut self, service: &str) -> Option<SinkSpec> {
        let place = self.sinks.iter().position(|(name, _)| *name == service)?;
        Some(self.sinks.swap_remove(place).1)
    }
}

/// Between two looks at a server that has nothing, or that fails.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
