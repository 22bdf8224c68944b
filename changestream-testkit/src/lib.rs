//! Starts real MongoDB servers as child processes, for tests, demos and benchmarks.
//!
//! [`MongoServer`] is a replica set of one node that is ready in well under a second, [`ReplicaSet`] one of several nodes
//! for elections and failover, [`TestServer`] whatever the environment names, and [`FaultProxy`] a network that
//! fails on demand. The `mongod` is the one on the `PATH`, else one fetched once into a cache ([`Mongod`]).
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
//! | `CHANGESTREAM_MONGOD_VERSION` | the version to start where the code names none: `6.0.27`, `6.0.5`, `5.0`, `4.4` |
//! | `CHANGESTREAM_CACHE` | where fetched servers are kept; else `$XDG_CACHE_HOME/changestream`, else `~/.cache/changestream` |
//!
//! # What is left behind
//!
//! A server is killed, and its data removed, when its handle is dropped. Where `setpriv` is installed (util-linux, so on
//! nearly every Linux) it also dies with the process that started it, however that process ends, and is spared the
//! Ctrl-C meant for that process; elsewhere a test process that is itself killed leaves its `mongod` running. Data of a killed test process stays in the temp folder.

mod apt;
mod cache;
mod daemon;
mod error;
mod kind;
mod mongod;
mod node;
mod openssl;
mod port;
mod process;
mod program;
mod proxy;
mod replica_set;
mod role;
mod server;
mod test_server;
mod tool;
mod version;
mod wait;
mod wheel;

pub use cache::cache_dir;
pub use error::Error;
pub use mongod::Mongod;
pub use program::Program;
pub use proxy::FaultProxy;
pub use replica_set::{ReplicaSet, ReplicaSetBuilder};
pub use server::{MongoServer, MongoServerBuilder};
pub use test_server::TestServer;
pub use version::{ServerVersion, Version};

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
