//! Starts real servers as child processes, for tests, demos and benchmarks: MongoDB, and those that events are delivered to.
//!
//! [`MongoServer`] is a replica set of one node that is ready in well under a second, [`ReplicaSet`] one of several nodes
//! for elections and failover, [`TestServer`] whatever the environment names, and [`FaultProxy`] a network that
//! fails on demand. [`RedisServer`], [`NatsServer`], [`KafkaServer`] (or [`TestKafka`]) and [`NoidaServer`] are what
//! sinks deliver to.
//!
//! Each program is the one on the `PATH`, else one fetched once into a cache ([`Mongod`], [`SinkServer`]).
//!
//! ```no_run
//! # async fn run() -> Result<(), changestream_testkit::Error> {
//! use changestream_testkit::MongoServer;
//!
//! let server = MongoServer::start().await?;
//! let client = server.client().await?;
//! server.kill().await?;
//! server.restart().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Environment
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MONGODB_URI` | the replica set that [`TestServer`] uses instead of starting one |
//! | `KAFKA_BROKERS` | the brokers that [`TestKafka`] uses instead of starting one |
//! | `CHANGESTREAM_MONGOD_VERSION` | the version to start where the code names none: `6.0.27`, `6.0.5`, `5.0`, `4.4` |
//! | `CHANGESTREAM_CACHE` | where fetched servers are kept; else `$XDG_CACHE_HOME/changestream`, else `~/.cache/changestream` |
//!
//! # What is left behind
//!
//! A server is killed, and its data removed, when its handle is dropped. Where `setpriv` is installed (util-linux, so on
//! nearly every Linux) it also dies with the process that started it, however that process ends, and is spared the
//! Ctrl-C meant for that process; elsewhere a test process that is itself killed leaves its servers running. Data of a killed test process stays in the temp folder.

mod apt;
mod cache;
mod daemon;
mod error;
mod kafka;
mod kind;
mod lifecycle;
mod mongod;
mod nats;
mod node;
mod noida;
mod object_store;
mod openssl;
mod port;
mod process;
mod program;
mod proxy;
mod python;
mod redis;
mod replica_set;
mod role;
mod server;
mod sink_server;
mod test_kafka;
mod test_server;
mod tool;
mod version;
mod wait;
mod wheel;

pub use cache::cache_dir;
pub use error::Error;
pub use kafka::{KafkaServer, KafkaServerBuilder};
pub use mongod::Mongod;
pub use nats::{NatsServer, NatsServerBuilder};
pub use noida::NoidaServer;
pub use program::Program;
pub use proxy::FaultProxy;
pub use python::python_packages;
pub use redis::{RedisServer, RedisServerBuilder};
pub use replica_set::{ReplicaSet, ReplicaSetBuilder};
pub use server::{MongoServer, MongoServerBuilder};
pub use sink_server::SinkServer;
pub use test_kafka::TestKafka;
pub use test_server::TestServer;
pub use version::{ServerVersion, Version};

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
