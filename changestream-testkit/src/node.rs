//! One `mongod` and its part in a replica set.

use std::{
    fs,
    io::{self, Write as _},
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::{ClientOptions, Credential, ServerAddress},
};

use crate::{
    Error, Mongod, Result, ServerVersion, Version,
    daemon::{Daemon, blocking},
    kind::Kind,
    mongod::MONGOD,
    role::{Role, run_command},
};

const REPLICA_SET: &str = "rs0";
pub(crate) const KIND: Kind = Kind {
    program: MONGOD,
    listening: "\"Waiting for connections\"",
    port_taken: "Address already in use",
    probe: None,
};

/// What is common to all servers of a builder.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) version: Option<ServerVersion>,
    pub(crate) oplog_size_mb: Option<u32>,
    pub(crate) cache_size_gb: f64,
    pub(crate) args: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: None,
            oplog_size_mb: None,
            cache_size_gb: 0.5,
            args: Vec::new(),
        }
    }
}

impl Settings {
    pub(crate) fn args(&self, replicated: bool, port: u16, dir: &Path) -> Vec<String> {
        let mut args: Vec<String> = [
            "--bind_ip=127.0.0.1",
            "--nounixsocket",
            "--setParameter=enableTestCommands=1",
            "--setParameter=diagnosticDataCollectionEnabled=false",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("--port={port}"));
        args.push(format!("--dbpath={}", dir.display()));
        args.push(format!("--wiredTigerCacheSizeGB={}", self.cache_size_gb));
        if replicated {
            args.push(format!("--replSet={REPLICA_SET}"));
        }
        let oplog_size = self.oplog_size_mb;
        args.extend(oplog_size.map(|size| format!("--oplogSize={size}")));
        args.extend_from_slice(&self.args);
        args
    }
}

/// The user that may do everything on a server with authorization, and its password.
const ADMIN: &str = "admin";

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    authorized: bool,
}

impl Node {
    /// Starts a server on a free port, and waits until it answers.
    pub(crate) async fn start(settings: &Settings, replicated: bool) -> Result<Self> {
        let version = settings.version;
        let mongod = blocking(move || Mongod::find_or_fetch(version)).await?;
        let args = |port, dir: &_| Ok(settings.args(replicated, port, dir));
        Ok(Self {
            daemon: Daemon::start(&KIND, mongod.program().clone(), args).await?,
            authorized: false,
        })
    }

    /// Starts the process again so that only users may do anything, of whom there is an administrator.
    pub(crate) async fn authorize(&mut self) -> Result<()> {
        let user = doc! {
            "createUser": ADMIN,
            "pwd": ADMIN,
            "roles": ["root"],
            "writeConcern": { "w": "majority", "j": true },
        };
        self.command(user).await?;
        let key_file = self.daemon.dir().join("key");
        write_private(&key_file, "changestream").map_err(Error::io("write a key file"))?;
        let key_file = format!("--keyFile={}", key_file.display());
        self.daemon.args_mut().push(key_file);
        self.authorized = true;
        self.daemon.launch().await
    }

    /// The user and password of an administrator as in a connection string, empty where none is needed.
    pub(crate) fn credentials(&self) -> String {
        match self.authorized {
            true => format!("{ADMIN}:{ADMIN}@"),
            false => String::new(),
        }
    }

    pub(crate) const fn version(&self) -> Version {
        self.daemon.program().version()
    }

    /// A client of this very node, whatever its role.
    pub(crate) fn client(&self) -> Result<Client> {
        if !self.daemon.is_running() {
            return Err(self.daemon.not_running());
        }
        let address = ServerAddress::Tcp {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: Some(self.daemon.port()),
        };
        let mut options = ClientOptions::builder()
            .hosts(vec![address])
            .direct_connection(true)
            .server_selection_timeout(Duration::from_secs(5))
            .build();
        if self.authorized {
            let credential = Credential::builder().username(ADMIN.to_owned());
            options.credential = Some(credential.password(ADMIN.to_owned()).build());
        }
        Ok(Client::with_options(options)?)
    }

    /// Runs a command on this very node.
    pub(crate) async fn command(&self, command: Document) -> Result<Document> {
        run_command(&self.client()?, command).await
    }

    /// Makes a replica set of this node and `others`.
    pub(crate) async fn initiate(&self, others: &[Self], settings: Document) -> Result<()> {
        let members: Vec<_> = [self]
            .into_iter()
            .chain(others)
            .enumerate()
            .map(|(id, node)| doc! { "_id": id as i32, "host": node.daemon.addr().to_string() })
            .collect();
        let config = doc! { "_id": REPLICA_SET, "members": members, "settings": settings };
        self.command(doc! { "replSetInitiate": config }).await?;
        Ok(())
    }

    /// Makes what was done so far survive a crash: 4.4 otherwise forgets a young replica set.
    pub(crate) async fn make_durable(&self) -> Result<()> {
        let client = self.client()?;
        let wait = self.daemon.waiting_for("first checkpoint");
        loop {
            // Refused as long as nothing is committed by a majority.
            let synced = run_command(&client, doc! { "fsync": 1 }).await;
            if wait.judge(synced.map(Some)).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Waits until the node takes writes or, if `or_reads`, follows one that does.
    pub(crate) async fn wait_until_serving(&self, or_reads: bool) -> Result<()> {
        let client = self.client()?;
        let what = if or_reads {
            "initial sync"
        } else {
            "becoming writable"
        };
        let wait = self.daemon.waiting_for(what);
        loop {
            let role = Role::of(&client).await;
            let serves = |role| role == Role::Primary || or_reads && role == Role::Secondary;
            if wait
                .judge(role.map(|r| serves(r).then_some(())))
                .await?
                .is_some()
            {
                return Ok(());
            }
        }
    }
}

/// The URI of a replica set of these nodes.
pub(crate) fn replica_set_uri<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> String {
    let hosts: Vec<_> = nodes
        .into_iter()
        .map(|n| n.daemon.addr().to_string())
        .collect();
    format!("mongodb://{}/?replicaSet={REPLICA_SET}", hosts.join(","))
}

/// Writes a file that only its owner may read, as mongod wants its key file.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
