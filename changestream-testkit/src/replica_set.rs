use mongodb::{
    Client,
    bson::{Document, doc},
};

use crate::{
    Result, ServerVersion, Version,
    node::{Node, Settings, replica_set_uri},
    role::{Role, run_command},
};

const ELECTION_TIMEOUT_MS: i32 = 2_000;
const HEARTBEAT_MS: i32 = 200;
/// Longer than any test waits for another primary, so that the old one does not come back by itself.
const STEP_DOWN_SECS: i32 = 60;

/// A replica set of several nodes, for elections, failover and lost majorities; killed, and its data removed, on drop.
///
/// A node whose primary is gone calls an election after two seconds. Nodes are named by their index, from 0.
#[derive(Debug)]
pub struct ReplicaSet {
    nodes: Vec<Node>,
}

impl ReplicaSet {
    /// Starts a set of `nodes` nodes, and waits until one is primary and all others have caught up with it.
    pub async fn start(nodes: usize) -> Result<Self> {
        Self::builder(nodes).start().await
    }

    /// A set of `nodes` nodes with settings of your own.
    pub fn builder(nodes: usize) -> ReplicaSetBuilder {
        ReplicaSetBuilder {
            settings: Settings::default(),
            nodes,
        }
    }

    /// The connection string, which names all nodes.
    pub fn uri(&self) -> String {
        replica_set_uri(&self.nodes)
    }

    /// A new client.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::with_uri_str(self.uri()).await?)
    }

    /// The version that runs.
    pub fn version(&self) -> Version {
        self.nodes[0].version()
    }

    /// The number of nodes, running or not.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The index of the node that is primary now, if there is one.
    pub async fn primary(&self) -> Result<Option<usize>> {
        first_primary(&self.clients_of_running()?).await
    }

    /// Waits until a node is primary; gives its index.
    pub async fn wait_for_primary(&self) -> Result<usize> {
        let running = self.nodes.iter().find(|node| node.daemon.is_running());
        let running = running.ok_or_else(|| self.nodes[0].daemon.not_running())?;
        let clients = self.clients_of_running()?;
        let wait = running.daemon.waiting_for("election of a primary");
        loop {
            if let Some(primary) = wait.judge(first_primary(&clients).await).await? {
                return Ok(primary);
            }
        }
    }

    /// Kills a node as a crash would (`SIGKILL`), and waits until it is gone. Its data stays.
    ///
    /// # Panics
    ///
    /// If there is no node `index`.
    pub async fn kill(&self, index: usize) -> Result<()> {
        self.nodes[index].daemon.kill().await
    }

    /// Kills the primary as soon as there is one; gives its index.
    pub async fn kill_primary(&self) -> Result<usize> {
        let primary = self.wait_for_primary().await?;
        self.kill(primary).await?;
        Ok(primary)
    }

    /// Starts a node again on the same port and data, and waits until it is primary or has caught up with the primary;
    /// kills it first if it runs. Without a majority there is nothing to catch up with, and it only waits for the start.
    ///
    /// # Panics
    ///
    /// If there is no node `index`.
    pub async fn restart(&self, index: usize) -> Result<()> {
        self.nodes[index].daemon.launch().await?;
        let running = self
            .nodes
            .iter()
            .filter(|node| node.daemon.is_running())
            .count();
        if running > self.nodes.len() / 2 {
            self.nodes[index].wait_until_serving(true).await?;
        }
        Ok(())
    }

    /// Makes the primary give up; gives its index. Another node is elected at once; the old one stays away for a minute.
    pub async fn step_down(&self) -> Result<usize> {
        let primary = self.wait_for_primary().await?;
        let command = doc! { "replSetStepDown": STEP_DOWN_SECS };
        self.nodes[primary].command(command).await?;
        Ok(primary)
    }

    /// Runs an administrative command on one node itself.
    ///
    /// # Panics
    ///
    /// If there is no node `index`.
    pub async fn admin_command(&self, index: usize, command: Document) -> Result<Document> {
        self.nodes[index].command(command).await
    }

    /// Makes the first node primary as soon as the others have heard of the set, which is before the election timeout.
    async fn elect_first(&self) -> Result<()> {
        let client = self.nodes[0].client()?;
        let wait = self.nodes[0].daemon.waiting_for("first election");
        loop {
            let elected = run_command(&client, doc! { "replSetStepUp": 1 }).await;
            if wait.judge(elected.map(Some)).await?.is_some() {
                return Ok(());
            }
        }
    }

    fn clients_of_running(&self) -> Result<Vec<(usize, Client)>> {
        let running = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.daemon.is_running());
        running
            .map(|(index, node)| Ok((index, node.client()?)))
            .collect()
    }
}

async fn first_primary(clients: &[(usize, Client)]) -> Result<Option<usize>> {
    for (index, client) in clients {
        if Role::of(client).await? == Role::Primary {
            return Ok(Some(*index));
        }
    }
    Ok(None)
}

/// Settings of a [`ReplicaSet`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ReplicaSetBuilder {
    settings: Settings,
    nodes: usize,
}

impl ReplicaSetBuilder {
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

    /// A further argument for every `mongod`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.settings.args.push(arg.into());
        self
    }

    /// Starts the set, and waits until one node is primary and all others have caught up with it.
    ///
    /// # Panics
    ///
    /// If the set has no nodes.
    pub async fn start(self) -> Result<ReplicaSet> {
        assert!(self.nodes > 0, "a replica set has at least one node");
        let mut nodes = Vec::with_capacity(self.nodes);
        for _ in 0..self.nodes {
            nodes.push(Node::start(&self.settings, true).await?);
        }
        let set = ReplicaSet { nodes };
        let settings = doc! {
            "electionTimeoutMillis": ELECTION_TIMEOUT_MS,
            "heartbeatIntervalMillis": HEARTBEAT_MS,
        };
        set.nodes[0].initiate(&set.nodes[1..], settings).await?;
        set.elect_first().await?;
        for node in &set.nodes {
            node.wait_until_serving(true).await?;
            node.make_durable().await?;
        }
        Ok(set)
    }
}
