use std::time::Duration;

use changestream_core::{BoxSink, Delivery, HandlerError};
use tokio::time::timeout;
use tower::ServiceExt;

/// How long a server may take for what it does at once.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn send(service: &BoxSink, delivery: Delivery) -> Result<(), HandlerError> {
    let sent = timeout(DEADLINE, service.clone().oneshot(delivery)).await;
    sent.expect("an answer in time")
}
