use mongodb::{
    Client,
    bson::{Document, doc},
};

use crate::Result;

/// What a node of a replica set does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    Secondary,
    Other,
}

impl Role {
    pub(crate) async fn of(client: &Client) -> Result<Self> {
        let hello = run_command(client, doc! { "hello": 1 }).await?;
        let is = |role| hello.get_bool(role).unwrap_or(false);
        Ok(match () {
            () if is("isWritablePrimary") => Self::Primary,
            () if is("secondary") => Self::Secondary,
            () => Self::Other,
        })
    }
}

/// Runs an administrative command.
pub(crate) async fn run_command(client: &Client, command: Document) -> Result<Document> {
    Ok(client.database("admin").run_command(command).await?)
}
