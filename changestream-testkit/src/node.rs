//! One `mongod` on its port and data folder, through starts and kills.

use std::{
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::{ClientOptions, Credential, ServerAddress},
};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::{
    Error, Mongod, Result, ServerVersion, Version,
    port::free_port,
    process::Process,
    role::{Role, run_command},
    wait::Wait,
};

const START_TRIES: u32 = 5;
const ADDRESS_IN_USE: i32 = 48;
/// What every version since 4.4 logs once it takes connections.
const LISTENING: &str = "\"Waiting for connections\"";
const LOG_LINES: usize = 15;
const REPLICA_SET: &str = "rs0";

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

/// The user that may do everything on a server with authorization, and its password.
const ADMIN: &str = "admin";

#[derive(Debug)]
pub(crate) struct Node {
    mongod: Mongod,
    args: Vec<String>,
    port: u16,
    process: Mutex<Option<Process>>,
    dir: TempDir,
    authorized: bool,
}

impl Node {
    /// Starts a server on a free port, and waits until it answers.
    pub(crate) async fn start(settings: &Settings, replicated: bool) -> Result<Self> {
        let version = settings.version;
        let mongod = blocking(move || Mongod::find_or_fetch(version)).await?;
        let mut args: Vec<String> = [
            "--bind_ip=127.0.0.1",
            "--nounixsocket",
            "--setParameter=enableTestCommands=1",
            "--setParameter=diagnosticDataCollectionEnabled=false",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!(
            "--wiredTigerCacheSizeGB={}",
            settings.cache_size_gb
        ));
        if replicated {
            args.push(format!("--replSet={REPLICA_SET}"));
        }
        args.extend(
            settings
                .oplog_size_mb
                .map(|size| format!("--oplogSize={size}")),
        );
        args.extend_from_slice(&settings.args);

        let mut tries = 1;
        loop {
            let dir = tempfile::Builder::new()
                .prefix("changestream-mongod-")
                .tempdir()
                .map_err(Error::io("make a folder for the server's data"))?;
            let node = Self {
                mongod: mongod.clone(),
                args: args.clone(),
                port: free_port().map_err(Error::io("find a free port"))?,
                process: Mutex::new(None),
                dir,
                authorized: false,
            };
            match node.launch().await {
                Err(Error::Died { status, .. })
                    if status.code() == Some(ADDRESS_IN_USE) && tries < START_TRIES =>
                {
                    tries += 1;
                }
                launched => return launched.map(|()| node),
            }
        }
    }

    /// Starts the process again, on the same port and data, and waits until it answers.
    pub(crate) async fn launch(&self) -> Result<()> {
        self.kill().await?;
        let mut args = self.args.clone();
        args.push(format!("--port={}", self.port));
        args.push(format!("--dbpath={}", self.dir.path().display()));
        let earlier = self.log().len();
        let process = Process::spawn(&self.mongod, &args, &self.log_file())
            .map_err(Error::io(format!("start {}", self.mongod.path().display())))?;
        *self.process() = Some(process);

        let wait = self.waiting_for("start of mongod");
        loop {
            // Not a connection: on a port that was taken meanwhile, another server would answer it.
            let listens = self
                .log()
                .get(earlier..)
                .is_some_and(|l| l.contains(LISTENING));
            if wait.judge(Ok(listens.then_some(()))).await?.is_some() {
                return Ok(());
            }
        }
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
        let key_file = self.dir.path().join("key");
        write_private(&key_file, "changestream").map_err(Error::io("write a key file"))?;
        self.args.push(format!("--keyFile={}", key_file.display()));
        self.authorized = true;
        self.launch().await
    }

    /// The user and password of an administrator as in a connection string, empty where none is needed.
    pub(crate) fn credentials(&self) -> String {
        match self.authorized {
            true => format!("{ADMIN}:{ADMIN}@"),
            false => String::new(),
        }
    }

    /// Kills the process, which gets no chance to tidy up, and waits until it is gone.
    pub(crate) async fn kill(&self) -> Result<()> {
        let process = self.process().take();
        blocking(move || {
            drop(process);
            Ok(())
        })
        .await
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process().is_some()
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) const fn version(&self) -> Version {
        self.mongod.version()
    }

    /// A client of this very node, whatever its role.
    pub(crate) fn client(&self) -> Result<Client> {
        if !self.is_running() {
            return Err(Error::NotRunning(self.port));
        }
        let address = ServerAddress::Tcp {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: Some(self.port),
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
            .map(|(id, node)| doc! { "_id": id as i32, "host": node.addr().to_string() })
            .collect();
        let config = doc! { "_id": REPLICA_SET, "members": members, "settings": settings };
        self.command(doc! { "replSetInitiate": config }).await?;
        Ok(())
    }

    /// Makes what was done so far survive a crash: 4.4 otherwise forgets a young replica set.
    pub(crate) async fn make_durable(&self) -> Result<()> {
        let client = self.client()?;
        let wait = self.waiting_for("first checkpoint");
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
        let wait = self.waiting_for(what);
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

    pub(crate) fn waiting_for(&self, what: &'static str) -> Wait<'_> {
        Wait::new(self, what)
    }

    /// Fails if the process has ended.
    pub(crate) fn check_alive(&self) -> Result<()> {
        let mut process = self.process();
        let running = process.as_mut().ok_or(Error::NotRunning(self.port))?;
        let ended = running
            .exited()
            .map_err(Error::io("ask after the state of mongod"))?;
        let Some(status) = ended else {
            return Ok(());
        };
        *process = None;
        Err(Error::Died {
            port: self.port,
            status,
            log: self.log_tail(),
        })
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("mongod.log")
    }

    fn log(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The last lines that the server logged.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The data folder goes next, and the process must not write into it meanwhile.
        self.process().take();
    }
}

/// The URI of a replica set of these nodes.
pub(crate) fn replica_set_uri<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> String {
    let hosts: Vec<_> = nodes.into_iter().map(|n| n.addr().to_string()).collect();
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => Err(Error::io("wait for a helper thread")(io::Error::other(
            failed,
        ))),
    }
}
