use std::net::SocketAddr;

use mongodb::{
    Client,
    bson::{Document, doc},
};

use crate::{
    Result, ServerVersion,
    lifecycle::lifecycle,
    node::{Node, Settings, replica_set_uri},
};

/// A `mongod` of its own for a test, by default a replica set of one node; killed, and its data removed, on drop.
#[derive(Debug)]
pub struct MongoServer {
    node: Node,
    replicated: bool,
}

impl MongoServer {
    /// Starts a replica set of one node, and waits until it takes writes.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server with settings of your own.
    pub fn builder() -> MongoServerBuilder {
        MongoServerBuilder {
            settings: Settings::default(),
            replicated: true,
            authorized: false,
        }
    }

    /// The connection string. A client of it finds the server again after a restart.
    pub fn uri(&self) -> String {
        if self.replicated {
            let uri = replica_set_uri([&self.node]);
            uri.replacen("//", &format!("//{}", self.node.credentials()), 1)
        } else {
            self.uri_through(self.addr())
        }
    }

    /// The connection string for clients that shall go through a proxy, such as a [`FaultProxy`], at `addr`.
    ///
    /// [`FaultProxy`]: crate::FaultProxy
    pub fn uri_through(&self, addr: SocketAddr) -> String {
        let credentials = self.node.credentials();
        format!("mongodb://{credentials}{addr}/?directConnection=true")
    }

    /// A new client.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::with_uri_str(self.uri()).await?)
    }

    lifecycle!(node.daemon);

    /// Starts the server again on the same port and data, and waits until it takes writes; kills it first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.node.daemon.launch().await?;
        self.wait_until_writable().await
    }

    /// Makes the only node give up being primary. It becomes primary again by itself a second later.
    pub async fn step_down(&self) -> Result<()> {
        let command = doc! { "replSetStepDown": 1, "secondaryCatchUpPeriodSecs": 0, "force": true };
        self.node.command(command).await?;
        Ok(())
    }

    /// Waits until the server takes writes, as after [`step_down`](Self::step_down).
    pub async fn wait_until_writable(&self) -> Result<()> {
        self.node.wait_until_serving(false).await
    }

    /// Runs an administrative command, `replSetResizeOplog` or `configureFailPoint` for instance, on the server itself.
    pub async fn admin_command(&self, command: Document) -> Result<Document> {
        self.node.command(command).await
    }
}

/// Settings of a [`MongoServer`].
#[derive(Debug, Clone)]
#[must_use]
pub struct MongoServerBuilder {
    settings: Settings,
    replicated: bool,
    authorized: bool,
}

impl MongoServerBuilder {
    /// The version to run; by default what [`Mongod`](crate::Mongod) finds.
    pub fn version(mut self, version: ServerVersion) -> Self {
        self.settings.version = Some(version);
        self
    }

    /// The size of the oplog in megabytes, at least 1; by default the server decides from the free space on disk.
    pub fn oplog_size_mb(mut self, size: u32) -> Self {
        self.settings.oplog_size_mb = Some(size);
        self
    }

    /// The memory for the server's own cache in gigabytes, 0.5 by default.
    pub fn cache_size_gb(mut self, size: f64) -> Self {
        self.settings.cache_size_gb = size;
        self
    }

    /// A further argument for `mongod`, as in `--setParameter=periodicNoopIntervalSecs=1`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.settings.args.push(arg.into());
        self
    }

    /// No replica set, and so no change streams: for tests of what a user is told who connects to such a server.
    pub fn standalone(mut self) -> Self {
        self.replicated = false;
        self
    }

    /// Only users may do anything. The connection strings are those of an administrator, who can make others.
    pub fn authorized(mut self) -> Self {
        self.authorized = true;
        self
    }

    /// Starts the server, and waits until it takes writes.
    pub async fn start(self) -> Result<MongoServer> {
        let mut server = MongoServer {
            node: Node::start(&self.settings, self.replicated).await?,
            replicated: self.replicated,
        };
        if self.replicated {
            server.node.initiate(&[], Document::new()).await?;
            server.wait_until_writable().await?;
            server.node.make_durable().await?;
        }
        if self.authorized {
            server.node.authorize().await?;
            server.wait_until_writable().await?;
            server.node.make_durable().await?;
        }
        Ok(server)
    }
}
