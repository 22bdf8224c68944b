//! The sinks of [`changestream`](https://docs.rs/changestream), one feature each: where handlers send their
//! messages. Applications depend on `changestream`, which re-exports them.

#[cfg(feature = "channel")]
mod channel;
#[cfg(feature = "cloudevents")]
mod cloudevents;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "routes")]
pub mod routes;
#[cfg(feature = "stdout")]
mod stdout;
#[cfg(any(feature = "http", feature = "nats", feature = "redis"))]
mod tls;

#[cfg(feature = "cloudevents")]
pub use self::cloudevents::CloudEvents;
#[cfg(feature = "mongodb")]
pub use self::mongodb::MongoSink;
#[cfg(feature = "redis")]
pub use self::redis::RedisSink;
#[cfg(feature = "channel")]
pub use channel::{ChannelDelivery, ChannelReceiver, ChannelSink};
#[cfg(feature = "http")]
pub use http::{HttpSink, WebhookError, WebhookKey};
#[cfg(feature = "kafka")]
pub use kafka::KafkaSink;
#[cfg(feature = "nats")]
pub use nats::NatsSink;
#[cfg(feature = "stdout")]
pub use stdout::StdoutSink;
