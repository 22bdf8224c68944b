//! Pooled connections that have lost their user.

use std::time::Duration;

use bson::doc;
use mongodb::{
    Client,
    error::{Error as DriverError, ErrorKind, Result},
};
use tokio::time::timeout;

/// What a command on a connection without a user, or with a user of too few rights, fails with.
const UNAUTHORIZED: i32 = 13;

/// Closes the connection that was used last, if `error` may be because it has lost its user.
///
/// A server logs the connections of a user out that was dropped, and leaves them so when the user is made
/// anew. The driver keeps them in its pool and uses the newest first. It only closes one whose command was
/// abandoned, and a `hello` can be told to wait.
pub async fn close_if_unauthorized(client: &Client, error: &DriverError) {
    let unauthorized =
        matches!(*error.kind, ErrorKind::Command(ref error) if error.code == UNAUTHORIZED);
    if unauthorized {
        // It is done when it does not return in time; when it fails, the connection is gone anyway.
        timeout(Duration::from_millis(100), wait_in_hello(client))
            .await
            .ok();
    }
}

async fn wait_in_hello(client: &Client) -> Result<()> {
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    if let Ok(version) = hello.get_document("topologyVersion") {
        let wait = doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 10_000 };
        admin.run_command(wait).await?;
    }
    Ok(())
}
