use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, join_all};
use tower::{Service, ServiceExt};
use tracing::Span;

use super::{Meter, Outcome, RetryPolicy, dead_letter, deduplicate::insistently};
use crate::{
    dead_letter::{DeadLetter, DeadLetterStore},
    event::RawChange,
    handler::{BatchItem, ChangeRequest, HandlerError},
    message::Message,
    processed::{self, ProcessedStore},
};

/// Makes attempts at a batch, each at what is left of it, until every event is handled, or durably a dead letter.
///
/// For a batch it is what deduplication, dead letters and retry are for an event. Nothing is delivered.
#[derive(Clone, Debug)]
pub(crate) struct Batches<S> {
    pub(crate) attempt: S,
    pub(crate) runtime: Arc<str>,
    pub(crate) policy: RetryPolicy,
    pub(crate) meter: Arc<Meter>,
    pub(crate) dead_letters: Arc<dyn DeadLetterStore>,
    pub(crate) processed: Option<Arc<dyn ProcessedStore>>,
}

impl<S> Service<ChangeRequest> for Batches<S>
where
    S: Service<ChangeRequest, Response = Vec<Message>, Error = HandlerError>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    /// Always ready: readiness of the inner service is part of the attempt.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ChangeRequest) -> Self::Future {
        let batches = self.clone();
        async move { Ok(batches.work_off(request).await) }.boxed()
    }
}

/// What one attempt came to.
struct Attempted {
    done: Vec<BatchItem>,
    failed: Vec<(BatchItem, Arc<HandlerError>)>,
    /// The handler was not called with these.
    untried: Vec<BatchItem>,
}

impl<S> Batches<S>
where
    S: Service<ChangeRequest, Response = Vec<Message>, Error = HandlerError> + Clone,
{
    async fn work_off(self, mut request: ChangeRequest) -> Outcome {
        let handler = Arc::clone(&request.handler);
        let mut outcome = Outcome::Done;
        let mut left = self.without_processed(&handler, request.items()).await;
        while let Some(of_left) = request.with_items(&left) {
            request = of_left;
            let attempt = request.attempt;
            let result = self.attempt.clone().oneshot(request.clone()).await;
            let Attempted {
                done,
                failed,
                untried,
            } = Attempted::of(left, result, attempt.0);
            self.finish(&handler, done).await;
            left = untried;
            let backoff = self.policy.backoff(attempt);
            let mut wait: Option<Duration> = None;
            for (item, error) in failed {
                self.meter.failed(error.kind());
                match self.policy.pause(attempt, &error, backoff) {
                    Some(pause) => {
                        self.meter.retried();
                        wait = wait.max(Some(pause));
                        left.push(item);
                    }
                    None => {
                        outcome = Outcome::DeadLettered;
                        self.give_up(&handler, item, &error).await;
                    }
                }
            }
            if let Some(wait) = wait {
                request.attempt = attempt.next();
                Span::current().record("attempt", request.attempt.0);
                tracing::debug!(attempt = attempt.0, events = left.len(), ?wait, "retrying");
                crate::crash_point!("retry.waiting");
                request.turn.clone().rest(wait).await;
            }
        }
        outcome
    }

    /// What is not recorded as processed.
    async fn without_processed(&self, handler: &str, items: Vec<BatchItem>) -> Vec<BatchItem> {
        let Some(store) = &self.processed else {
            return items;
        };
        let asked = items.into_iter().map(|item| async {
            let id = self.id(handler, &item.change);
            match insistently(|| store.contains(&id)).await {
                true => {
                    item.receipt.done();
                    None
                }
                false => Some(item),
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// These are handled.
    async fn finish(&self, handler: &str, items: Vec<BatchItem>) {
        if let Some(store) = &self.processed {
            let recorded = items.iter().map(|item| async {
                let id = self.id(handler, &item.change);
                insistently(|| store.record(&id)).await;
            });
            join_all(recorded).await;
        }
        for item in items {
            item.receipt.done();
        }
    }

    /// Makes a dead letter of it.
    async fn give_up(&self, handler: &str, item: BatchItem, error: &HandlerError) {
        let letter = DeadLetter::new(&self.runtime, handler, &item.change, error);
        dead_letter::write(Arc::clone(&self.dead_letters), letter).await;
        self.meter.dead_lettered();
        item.receipt.done();
    }

    fn id(&self, handler: &str, change: &RawChange) -> String {
        processed::id(&self.runtime, handler, change.event_id())
    }
}

impl Attempted {
    fn of<T>(items: Vec<BatchItem>, result: Result<T, HandlerError>, attempt: u32) -> Self {
        let mut attempted = Self {
            done: Vec::new(),
            failed: Vec::new(),
            untried: Vec::new(),
        };
        let error = match result {
            Ok(_) => {
                attempted.done = items;
                return attempted;
            }
            Err(error) => error,
        };
        let shared = |mut error: HandlerError| {
            error.set_attempts(attempt);
            Arc::new(error)
        };
        let count = items.len();
        let whole = |items: Vec<BatchItem>, error| {
            let error = shared(error);
            let failed = items.into_iter().map(|item| (item, Arc::clone(&error)));
            failed.collect()
        };
        let partial = match error.into_partial() {
            Ok(partial) => partial,
            Err(error) => {
                attempted.failed = whole(items, error);
                return attempted;
            }
        };
        if let Some(place) = partial.misplaced(count) {
            let error = HandlerError::retry(format!(
                "the handler says that item {place} failed, of a batch of {count} whose first is item 0: all of them \
                 count as failed"
            ));
            attempted.failed = whole(items, error);
            return attempted;
        }
        let others = match partial.is_untried {
            true => &mut attempted.untried,
            false => &mut attempted.done,
        };
        let mut errors: Vec<_> = (0..count).map(|_| None).collect();
        for (place, error) in partial.failed {
            errors[place] = Some(error);
        }
        for (item, error) in items.into_iter().zip(errors) {
            match error {
                Some(error) => attempted.failed.push((item, shared(error))),
                None => others.push(item),
            }
        }
        attempted
    }
}
