use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use tokio::time::sleep;
use tower::{Service, ServiceExt};

use super::{Backoff, Outcome};
use crate::{
    error::StoreError,
    handler::ChangeRequest,
    processed::{self, ProcessedStore},
};

/// Between tries to ask the store.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Skips events that are recorded as processed, and records those that are done.
///
/// It stands around the delivery: an event is recorded when its messages have arrived. What became a dead
/// letter is not recorded, so that a replay is handled.
#[derive(Clone, Debug)]
pub(crate) struct Deduplicate<S> {
    inner: S,
    runtime: Arc<str>,
    store: Arc<dyn ProcessedStore>,
}

impl<S> Deduplicate<S> {
    pub(crate) fn new(inner: S, runtime: Arc<str>, store: Arc<dyn ProcessedStore>) -> Self {
        Self {
            inner,
            runtime,
            store,
        }
    }
}

impl<S> Service<ChangeRequest> for Deduplicate<S>
where
    S: Service<ChangeRequest, Response = Outcome, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ChangeRequest) -> Self::Future {
        let Self {
            inner,
            runtime,
            store,
        } = self.clone();
        let event = request.change.event_id();
        let id = processed::id(&runtime, &request.handler, event);
        async move {
            if insistently(|| store.contains(&id)).await {
                tracing::debug!("processed before; skipped");
                return Ok(Outcome::Done);
            }
            let outcome = inner.oneshot(request).await?;
            if outcome == Outcome::Done {
                insistently(|| store.record(&id)).await;
            }
            Ok(outcome)
        }
        .boxed()
    }
}

/// Asks until there is an answer.
pub(super) async fn insistently<T, F>(ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut failures = 0;
    loop {
        let error = match ask().await {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        failures += 1;
        let wait = BACKOFF.wait(failures);
        tracing::error!(
            error = error.brief(),
            ?wait,
            "the store of processed events fails; the event waits for it"
        );
        sleep(wait).await;
    }
}
