//! The server's own fail points.

use mongodb::{
    Client, Collection,
    bson::{Bson, Document, doc},
    error::Result,
};

/// Makes these commands fail with this error, as often as `mode` says: `{ "times": 1 }`, `"alwaysOn"`.
pub(crate) async fn fail(
    client: &Client,
    commands: &[&str],
    mode: impl Into<Bson>,
    error: Failure,
) -> Result<()> {
    let mut data = doc! { "failCommands": commands };
    match error.code {
        Some(code) => data.insert("errorCode", code),
        None => data.insert("closeConnection", true),
    };
    if let Some(namespace) = error.namespace {
        data.insert("namespace", namespace);
    }
    if !error.labels.is_empty() {
        data.insert("errorLabels", error.labels);
    }
    configure(client, mode.into(), data).await
}

/// Ends what [`fail`] began.
pub(crate) async fn heal(client: &Client) -> Result<()> {
    configure(client, "off".into(), Document::new()).await
}

async fn configure(client: &Client, mode: Bson, data: Document) -> Result<()> {
    let command = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
    client
        .database("admin")
        .run_command(command)
        .await
        .map(drop)
}

/// An error of the server.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Of the reply; there is none where the connection is closed.
    code: Option<i32>,
    labels: Vec<String>,
    /// Where; everywhere if `None`.
    namespace: Option<String>,
}

impl Failure {
    pub(crate) fn code(code: i32) -> Self {
        Self {
            code: Some(code),
            labels: Vec::new(),
            namespace: None,
        }
    }

    /// A connection that is closed instead of a reply.
    pub(crate) fn hang_up() -> Self {
        Self {
            code: None,
            labels: Vec::new(),
            namespace: None,
        }
    }

    /// One that the server itself calls resumable.
    pub(crate) fn resumable(code: i32) -> Self {
        Self {
            code: Some(code),
            labels: vec!["ResumableChangeStreamError".to_owned()],
            namespace: None,
        }
    }

    /// The same, only of commands for this collection.
    pub(crate) fn on(self, collection: &Collection<Document>) -> Self {
        Self {
            namespace: Some(collection.namespace().to_string()),
            ..self
        }
    }
}

/// How many aggregates the server has run.
pub(crate) async fn aggregates(client: &Client) -> Result<i64> {
    let admin = client.database("admin");
    let status = admin.run_command(doc! { "serverStatus": 1 }).await?;
    let metrics = status.get_document("metrics").expect("metrics");
    let commands = metrics.get_document("commands").expect("commands");
    let aggregate = commands.get_document("aggregate").expect("aggregate");
    Ok(aggregate.get_i64("total").expect("a number"))
}
