//! What contestants send to: a server of the comparison's own.

use std::{any::Any, time::Duration};

use axum::{Router, extract::Path, http::StatusCode, routing::post};
use changestream_testkit::{KafkaServer, NatsServer, RedisServer};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use tokio::{net::TcpListener, time::sleep};

use crate::Result;

/// The topic of Kafka.
pub(crate) const TOPIC: &str = "items";

#[derive(Clone, Copy)]
pub(crate) enum Receiver {
    /// Answers 204 to each POST, after as many milliseconds as its path says.
    Http,
    /// Tansu, with a topic of one partition, in memory.
    Kafka,
    Nats,
    /// Appends to a file, and syncs that before it answers.
    Redis,
}

/// One that is there until it is dropped.
pub(crate) struct Running {
    pub(crate) uri: String,
    _server: Box<dyn Any>,
}

impl Receiver {
    pub(crate) async fn start(self) -> Result<Running> {
        match self {
            Self::Http => http().await,
            Self::Kafka => {
                let server = KafkaServer::start().await?;
                create_topic(&server.bootstrap()).await?;
                Ok(Running::new(server.bootstrap(), server))
            }
            Self::Nats => {
                let server = NatsServer::start().await?;
                Ok(Running::new(server.uri(), server))
            }
            Self::Redis => {
                let server = RedisServer::start().await?;
                Ok(Running::new(server.uri(), server))
            }
        }
    }
}

impl Running {
    fn new(uri: String, server: impl Any) -> Self {
        Self {
            uri,
            _server: Box::new(server),
        }
    }
}

async fn http() -> Result<Running> {
    let answer = async |Path(wait): Path<u64>, _body: String| {
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        StatusCode::NO_CONTENT
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    let serve = axum::serve(listener, Router::new().route("/{wait}", post(answer)));
    Ok(Running::new(uri, tokio::spawn(async { serve.await })))
}

async fn create_topic(brokers: &str) -> Result<()> {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    let created = admin.create_topics([&topic], &AdminOptions::new()).await?;
    for topic in created {
        topic.map_err(|(topic, code)| format!("topic `{topic}` was not created: {code}"))?;
    }
    Ok(())
}
