use std::time::Duration;

use clap::Args;
use mongodb::{Client, Database, error::ErrorKind, options::ClientOptions};

use crate::failure::Failure;

/// How long a server is looked for, unless the connection string says so itself.
const SERVER_SELECTION: Duration = Duration::from_secs(10);

/// Where the dead letters and checkpoints are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The connection string; better in the environment, where other users do not see its password
    #[arg(long, global = true, env = "MONGODB_URI", hide_env_values = true)]
    uri: Option<String>,
    /// The database that the runtime watches, or keeps its dead letters and checkpoints in; by default that
    /// of the connection string
    #[arg(long, global = true)]
    database: Option<String>,
    /// The collection, where it is not the default one
    #[arg(long, global = true)]
    pub(crate) collection: Option<String>,
}

impl Connection {
    /// The database. No message quotes the connection string, which may hold a password.
    pub(crate) async fn database(&self) -> Result<Database, Failure> {
        let uri = self.uri.as_deref().filter(|uri| !uri.is_empty());
        let uri = uri.ok_or_else(|| {
            Failure::missing("no connection string: set MONGODB_URI in the environment, or --uri")
        })?;
        let options = ClientOptions::parse(uri).await;
        let mut options = options.map_err(|error| match &*error.kind {
            ErrorKind::DnsResolve { .. } => {
                Failure::failed("the host of the connection string cannot be resolved")
            }
            _ => Failure::usage(
                "the connection string is none that the driver takes: it has the form \
                 mongodb://user:password@host:port/database?options, with what is special in user and password \
                 percent-encoded",
            ),
        })?;
        options
            .server_selection_timeout
            .get_or_insert(SERVER_SELECTION);
        options
            .app_name
            .get_or_insert_with(|| "changestream".to_owned());
        let name = self.database.clone().or(options.default_database.clone());
        let name = name.ok_or_else(|| {
            Failure::missing("no database: name it with --database, or in the connection string")
        })?;
        let client = Client::with_options(options);
        // Of the options, only what was in the string can be wrong.
        let client = client
            .map_err(|_| Failure::usage("the connection string's options do not go together"))?;
        Ok(client.database(&name))
    }
}
