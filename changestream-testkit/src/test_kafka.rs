use crate::{
    KafkaServer, Result,
    test_server::{from_env, unique_name},
};

const BROKERS_VARIABLE: &str = "KAFKA_BROKERS";

/// The brokers that the environment names with `KAFKA_BROKERS`, else one of its own that is started.
///
/// Brokers that were named may be shared with others: use a [`unique_topic`](Self::unique_topic) on them.
#[derive(Debug)]
pub struct TestKafka {
    bootstrap: String,
    started: Option<KafkaServer>,
}

impl TestKafka {
    /// Uses the brokers of `KAFKA_BROKERS` if it is set, else starts one.
    pub async fn from_env_or_start() -> Result<Self> {
        if let Some(bootstrap) = from_env(BROKERS_VARIABLE) {
            return Ok(Self {
                bootstrap,
                started: None,
            });
        }
        let server = KafkaServer::start().await?;
        Ok(Self {
            bootstrap: server.bootstrap(),
            started: Some(server),
        })
    }

    /// The addresses for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A topic name that no other test uses, `prefix` and a unique rest. Nothing is created, and nothing removed.
    pub fn unique_topic(&self, prefix: &str) -> String {
        unique_name(prefix)
    }

    /// The broker that was started, if one was: only that one can be killed.
    pub fn started(&self) -> Option<&KafkaServer> {
        self.started.as_ref()
    }
}
