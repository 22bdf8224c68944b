use std::{
    error::Error as StdError,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use mongodb::{
    ClientSession,
    error::{
        Error as DriverError, ErrorKind, TRANSIENT_TRANSACTION_ERROR,
        UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
    },
};
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceExt};

use super::Backoff;
use crate::{
    error::{BoxError, StoreError},
    extract::TransactionSlot,
    handler::{ChangeRequest, Disposition, HandlerError},
    message::Message,
    processed::{self, Claim, Transactions},
};

/// Between tries to begin, to run again what met a conflict, and to learn what became of a commit.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));

/// Makes each attempt a transaction that also records the event's id, and skips the attempt where the id is
/// recorded already.
///
/// It stands around the timeout, so that no commit and no abort is dropped half way.
#[derive(Clone, Debug)]
pub(crate) struct Transact<S> {
    inner: S,
    runtime: Arc<str>,
    transactions: Transactions,
    /// Whether anyone receives what the handler returns.
    keeps_messages: bool,
    /// For how long an attempt that meets conflicts is made again, and how long a reply of the server may take.
    patience: Duration,
}

impl<S> Transact<S> {
    pub(crate) fn new(
        inner: S,
        runtime: Arc<str>,
        transactions: Transactions,
        keeps_messages: bool,
        patience: Duration,
    ) -> Self {
        Self {
            inner,
            runtime,
            transactions,
            keeps_messages,
            patience,
        }
    }
}

impl<S> Service<ChangeRequest> for Transact<S>
where
    S: Service<ChangeRequest, Response = Vec<Message>, Error = HandlerError>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    type Response = Vec<Message>;
    type Error = HandlerError;
    type Future = BoxFuture<'static, Result<Vec<Message>, HandlerError>>;

    /// Always ready: readiness of the inner service is part of the attempt.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ChangeRequest) -> Self::Future {
        let attempt = self.clone();
        async move { attempt.make(request).await }.boxed()
    }
}

impl<S> Transact<S>
where
    S: Service<ChangeRequest, Response = Vec<Message>, Error = HandlerError> + Clone,
{
    async fn make(&self, request: ChangeRequest) -> Result<Vec<Message>, HandlerError> {
        let event = request.change.event_id();
        let id = processed::id(&self.runtime, &request.handler, event);
        let started = Instant::now();
        let mut conflicts = 0;
        loop {
            let session = match self.claim(&id).await {
                Claim::Ours(session) => *session,
                Claim::Done(messages) => {
                    tracing::debug!("processed before; skipped");
                    return Ok(messages);
                }
            };
            let error = match self.run(session, &id, request.clone()).await {
                Ok(messages) => return Ok(messages),
                Err(error) => error,
            };
            if !is_transient(&error) || started.elapsed() >= self.patience {
                return Err(explained(error));
            }
            conflicts += 1;
            let wait = BACKOFF.wait(conflicts);
            tracing::debug!(?wait, %error, "the transaction is made again");
            sleep(wait).await;
        }
    }

    /// Begins the transaction. The event waits while that fails: it is not the handler that failed, and a
    /// transaction left open by a crash passes.
    async fn claim(&self, id: &str) -> Claim {
        let mut failures = 0;
        loop {
            let error = match timeout(self.patience, self.transactions.claim(id)).await {
                Ok(Ok(claim)) => return claim,
                Ok(Err(error)) => error,
                Err(_elapsed) => no_reply(),
            };
            failures += 1;
            let wait = BACKOFF.wait(failures);
            tracing::warn!(
                error = error.brief(),
                ?wait,
                "the transaction cannot begin; the event waits for it"
            );
            sleep(wait).await;
        }
    }

    /// Runs the attempt within the transaction, and ends the transaction.
    async fn run(
        &self,
        session: ClientSession,
        id: &str,
        mut request: ChangeRequest,
    ) -> Result<Vec<Message>, HandlerError> {
        let slot = TransactionSlot::new(session, self.transactions.database().clone());
        request.transaction = Some(slot.clone());
        let result = self.inner.clone().oneshot(request).await;
        let Some(mut session) = slot.close() else {
            return result.and_then(|_| {
                let problem = "the handler returned but keeps its `Transaction` elsewhere; it has to be dropped by then";
                Err(HandlerError::reject(problem))
            });
        };
        let committed = match result {
            Ok(messages) => self.commit(&mut session, id, messages).await,
            Err(error) => Err(error),
        };
        if committed.is_err() {
            // The server gives up by itself what this does not reach.
            let aborting = timeout(self.patience, session.abort_transaction().into_future());
            aborting.await.ok();
        }
        committed
    }

    /// Commits, and waits until it is known whether that worked.
    async fn commit(
        &self,
        session: &mut ClientSession,
        id: &str,
        messages: Vec<Message>,
    ) -> Result<Vec<Message>, HandlerError> {
        if self.keeps_messages && !messages.is_empty() {
            let keeping = self.transactions.keep(session, id, &messages);
            let kept = timeout(self.patience, keeping).await;
            kept.map_err(|_| HandlerError::retry(no_reply()))??;
        }
        let mut failures = 0;
        loop {
            let committing = session.commit_transaction().into_future();
            let error = match timeout(self.patience, committing).await {
                Ok(Ok(())) => return Ok(messages),
                Ok(Err(error)) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {
                    StoreError::new("the commit has no known result").caused_by(error)
                }
                Ok(Err(error)) => return Err(HandlerError::retry(error)),
                Err(_elapsed) => no_reply(),
            };
            failures += 1;
            let wait = BACKOFF.wait(failures);
            tracing::warn!(
                error = error.brief(),
                ?wait,
                "the transaction is committed again; the event waits for it"
            );
            sleep(wait).await;
        }
    }
}

fn no_reply() -> StoreError {
    StoreError::new("the server did not reply in time")
}

/// Whether the whole transaction may succeed when made again (drivers' specification *Transactions*).
fn is_transient(error: &HandlerError) -> bool {
    let of_driver = driver_error(error.source());
    error.disposition() == Disposition::Retry
        && of_driver.is_some_and(|error| error.contains_label(TRANSIENT_TRANSACTION_ERROR))
}

fn driver_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a DriverError> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        error = current.source();
    }
    None
}

/// An error of the server that needs saying what it means here.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Explained {
    message: &'static str,
    source: BoxError,
}

fn explained(error: HandlerError) -> HandlerError {
    const NO_SUCH_TRANSACTION: i32 = 251;
    const TRANSACTION_TOO_LARGE: i32 = 257;
    const LIFETIME_EXCEEDED: i32 = 290;
    if error.disposition() != Disposition::Retry {
        return error;
    }
    let code = driver_error(error.source()).and_then(|error| match *error.kind {
        ErrorKind::Command(ref error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(ref error)) => Some(error.code),
        _ => None,
    });
    let explain = |message, source| Explained { message, source };
    match code {
        Some(NO_SUCH_TRANSACTION | LIFETIME_EXCEEDED) => {
            let message = "the server has ended the transaction: it lasted longer than \
                           `transactionLifetimeLimitSeconds`, or the handler did not return an error that it met in it";
            HandlerError::retry(explain(message, error.into_source()))
        }
        Some(TRANSACTION_TOO_LARGE) => {
            let message = "the transaction writes more than the server takes in one";
            HandlerError::reject(explain(message, error.into_source()))
        }
        _ => error,
    }
}
