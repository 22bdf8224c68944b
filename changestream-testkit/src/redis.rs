use std::{net::SocketAddr, path::Path};

use crate::{
    Result, SinkServer,
    daemon::Daemon,
    kind::{Kind, Probe},
    lifecycle::lifecycle,
};

pub(crate) const KIND: Kind = Kind {
    program: "redis-server",
    listening: "Ready to accept connections",
    port_taken: "Address already in use",
    probe: Some(Probe {
        request: b"PING\r\n",
        is_answer: |answer| answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH"),
    }),
};
/// One has the server, the other its name, which is a link.
pub(crate) const PACKAGES: [&str; 2] = ["redis-server", "redis-tools"];

/// A Redis of its own for a test; killed, and its data removed, on drop.
///
/// What it acknowledged survives [`kill`](Self::kill): it appends to a file, and syncs that, before it answers.
#[derive(Debug)]
pub struct RedisServer {
    daemon: Daemon,
    password: Option<String>,
}

impl RedisServer {
    /// Starts a server, and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server with settings of your own.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// The URI, as in `redis://127.0.0.1:6379/`, with the password if there is one.
    pub fn uri(&self) -> String {
        self.uri_through(self.addr())
    }

    /// The URI for clients that shall go through a proxy, such as a [`FaultProxy`](crate::FaultProxy), at `addr`.
    pub fn uri_through(&self, addr: SocketAddr) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{addr}/"),
            None => format!("redis://{addr}/"),
        }
    }

    lifecycle!(daemon);

    /// Starts the server again on the same port and data, and waits until it answers; kills it first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.daemon.launch().await
    }
}

/// Settings of a [`RedisServer`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RedisServerBuilder {
    password: Option<String>,
    args: Vec<String>,
}

impl RedisServerBuilder {
    /// Lets in only who knows this password, made of letters and digits, as the URI holds it as it is.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// A further argument, as in `.arg("--maxmemory").arg("10mb")`. It goes before those that are there.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts the server, and waits until it answers.
    pub async fn start(self) -> Result<RedisServer> {
        let args = |port, dir: &_| Ok(self.args(port, dir));
        Ok(RedisServer {
            daemon: SinkServer::Redis.start(Vec::new(), args).await?,
            password: self.password,
        })
    }

    pub(crate) fn args(&self, port: u16, dir: &Path) -> Vec<String> {
        let (port, dir) = (port.to_string(), dir.display().to_string());
        let password = self.password.as_deref();
        let options = [
            ("--port", &*port),
            ("--bind", "127.0.0.1"),
            ("--dir", &dir),
            ("--save", ""),
            ("--appendonly", "yes"),
            ("--appendfsync", "always"),
        ]
        .into_iter()
        .chain(password.map(|password| ("--requirepass", password)));
        let mut args: Vec<_> = options
            .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
            .collect();
        args.extend_from_slice(&self.args);
        args
    }
}
