//! The Redis sink against real servers.

mod cluster;
mod commands;
mod connection;
mod failures;
mod history;
mod outage;
mod patterns;
#[path = "../support/send.rs"]
mod send;
mod settings;
mod tls;

use changestream_core::{
    Delivery, Disposition, HandlerError, Message,
    testing::{change, delivery_of, service},
};
use changestream_sinks::RedisSink;
use changestream_testkit::RedisServer;
use redis::{FromRedisValue, aio::MultiplexedConnection};

use send::{DEADLINE, send};

/// A server, and a client of the library to see what it holds.
struct Redis {
    server: RedisServer,
    client: MultiplexedConnection,
}

impl Redis {
    async fn start() -> Self {
        Self::of(RedisServer::start().await.unwrap()).await
    }

    async fn of(server: RedisServer) -> Self {
        let client = client(&server.uri()).await;
        Self { server, client }
    }

    fn sink(&self) -> RedisSink {
        RedisSink::new(self.server.uri()).unwrap()
    }

    /// What a command, written as in `redis-cli`, gives.
    async fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let mut parts = command.split(' ');
        let mut of_it = redis::cmd(parts.next().unwrap());
        of_it.arg(parts.collect::<Vec<_>>());
        let answer = of_it.query_async(&mut self.client.clone()).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// The keys there are, in their order.
    async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ask("KEYS *").await;
        keys.sort();
        keys
    }
}

async fn client(uri: &str) -> MultiplexedConnection {
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(DEADLINE));
    let client = redis::Client::open(uri).unwrap();
    let client = client
        .get_multiplexed_async_connection_with_config(&config)
        .await;
    client.unwrap()
}

/// The delivery of a JSON text, about the insert of a document with this id.
fn of(id: i32, payload: impl Into<String>) -> Delivery {
    let message = Message::new(payload.into(), "application/json");
    delivery_of(change::insert("products").id(id), message)
}

#[track_caller]
fn assert_error(result: Result<(), HandlerError>, disposition: Disposition, message: &str) {
    let error = result.expect_err("the delivery fails");
    assert_eq!(error.disposition(), disposition, "{error}");
    assert_eq!(error.to_string(), message);
    assert!(error.source().source().is_none(), "the cause is told once");
}
