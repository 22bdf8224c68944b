use bson::doc;
use mongodb::Client;

use crate::{
    error::{Error, Kind},
    event::ClusterTime,
};

/// Checks that the deployment has reached the time of a checkpoint.
///
/// A stream that starts in the future is no error to the server, and reports nothing until then.
pub(crate) async fn check_reached(client: &Client, time: ClusterTime) -> Result<(), Error> {
    let ping = client
        .database("admin")
        .run_command(doc! { "ping": 1 })
        .await;
    // Who does not answer, or does not know the time yet, is dealt with when the stream opens.
    let Ok(pong) = ping else { return Ok(()) };
    let gossiped = pong.get_document("$clusterTime");
    let gossiped = gossiped.and_then(|time| time.get_timestamp("clusterTime"));
    let now = pong.get_timestamp("operationTime").ok().max(gossiped.ok());
    match now {
        Some(now) if now < time.0 => Err(Error::new(
            Kind::Stream,
            "the checkpoint is of a time that the deployment has not reached; it is of another deployment, or \
             damaged. Nothing was skipped; delete the checkpoint to start now",
        )),
        _ => Ok(()),
    }
}
