//! Handlers that many tests take.

use std::{sync::Arc, time::Duration};

use changestream::prelude::*;
use tokio::sync::Semaphore;

use super::{Event, Seen};

/// A handler that notes what it sees of these collections, or of all where there are none.
pub(crate) fn recorder(collections: &[&str]) -> HandlerSpec<Seen> {
    async fn record(
        State(seen): State<Seen>,
        change: RawChange,
        Attempt(attempt): Attempt,
    ) -> Result<(), HandlerError> {
        seen.push(Event::of(&change, attempt));
        Ok(())
    }
    HandlerSpec::new("record", record).collections(collections.iter().copied())
}

/// A handler that notes each event of `orders`, and is done with it once it has a permit.
pub(crate) fn gated(gate: &Arc<Semaphore>) -> HandlerSpec<Seen> {
    let gate = Arc::clone(gate);
    let handle = move |State(seen): State<Seen>, change: RawChange| {
        let gate = Arc::clone(&gate);
        async move {
            seen.push(Event::of(&change, 1));
            gate.acquire().await?.forget();
            Ok::<_, HandlerError>(())
        }
    };
    HandlerSpec::new("gated", handle)
        .collections(["orders"])
        .timeout(Duration::from_secs(3600))
}
