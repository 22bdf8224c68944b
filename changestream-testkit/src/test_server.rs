use std::{
    env,
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use mongodb::{Client, bson::doc};

use crate::{Error, MongoServer, Result, Version};

const URI_VARIABLE: &str = "MONGODB_URI";

/// The server that the environment names with `MONGODB_URI`, else one of its own that is started.
///
/// A server that was named may be shared with others: use a [`unique_database`](Self::unique_database) on it.
#[derive(Debug)]
pub struct TestServer {
    uri: String,
    started: Option<MongoServer>,
}

impl TestServer {
    /// Uses the server of `MONGODB_URI` if it is set, else starts one.
    pub async fn from_env_or_start() -> Result<Self> {
        if let Some(uri) = from_env(URI_VARIABLE) {
            return Ok(Self { uri, started: None });
        }
        let server = MongoServer::start().await?;
        Ok(Self {
            uri: server.uri(),
            started: Some(server),
        })
    }

    /// The connection string.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// A new client.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::with_uri_str(&self.uri).await?)
    }

    /// The version of the server, as it says itself.
    pub async fn version(&self) -> Result<Version> {
        let client = self.client().await?;
        let info = client
            .database("admin")
            .run_command(doc! { "buildInfo": 1 })
            .await?;
        let said = info.get_str("version").unwrap_or_default();
        Version::find_in(said).ok_or_else(|| Error::UnknownVersion(said.to_owned()))
    }

    /// A database name that no other test uses, `prefix` and a unique rest. Nothing is created, and nothing removed.
    pub fn unique_database(&self, prefix: &str) -> String {
        unique_name(prefix)
    }

    /// The server that was started, if one was: only that one can be killed.
    pub fn started(&self) -> Option<&MongoServer> {
        self.started.as_ref()
    }
}

/// What the environment names, if it does.
pub(crate) fn from_env(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

pub(crate) fn unique_name(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let process = std::process::id();
    format!("{prefix}_{:x}_{process:x}_{count}", now.as_micros())
}
