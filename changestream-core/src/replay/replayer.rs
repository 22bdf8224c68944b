use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tower::ServiceExt;

use super::ReplayOutcome;
use crate::{
    dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterStore, ReplayMark, WatchedDeadLetters},
    engine::Engine,
    error::{Error, StoreError},
    event::RawChange,
    handler::ChangeRequest,
    lane::Turn,
    layer::{Backoff, HandlerStacks, Outcome, SinkStack},
    runtime::Parts,
    shutdown::stopped,
    sink::Delivery,
};

/// Between looks for requests.
const POLL: Duration = Duration::from_secs(1);

/// After failures of the store.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// Letters that are listed at once.
const PAGE: u32 = 100;

/// Carries out replays, through the stacks that events go through.
pub(crate) struct Replayer {
    runtime: Arc<str>,
    handlers: HashMap<Arc<str>, HandlerStacks>,
    sinks: HashMap<Arc<str>, SinkStack>,
    store: WatchedDeadLetters,
}

impl Parts {
    /// The engine, and what replays into the same stacks.
    pub(crate) fn into_engine_and_replayer(self, default_database: &str) -> (Engine, Replayer) {
        let runtime = Arc::clone(&self.name);
        let store = self.dead_letters.clone();
        let sinks = self.sinks.iter().cloned().collect();
        let engine = self.into_engine(default_database);
        let handlers = engine.handlers.iter();
        let handlers = handlers
            .map(|handler| (Arc::clone(&handler.name), handler.stacks.clone()))
            .collect();
        let replayer = Replayer {
            runtime,
            handlers,
            sinks,
            store,
        };
        (engine, replayer)
    }
}

impl Replayer {
    /// Looks for requests, and carries them out one after the other, oldest letter first, until it is told
    /// to stop; then finishes the one at hand.
    ///
    /// One that was begun before a crash is still marked, and so is done again.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let prepared = tokio::select! {
            biased;
            () = stopped(&mut stop) => return Ok(()),
            prepared = self.store.prepare() => prepared,
        };
        if let Err(error) = prepared {
            tracing::warn!(
                error = error.brief(),
                "requests for replays are found slowly"
            );
        }
        let mut failures = 0;
        loop {
            let wait = match failures {
                0 => POLL,
                failures => POLL + BACKOFF.wait(failures),
            };
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                () = sleep(wait) => {}
            }
            match self.answer_all(&mut stop).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(
                        error = error.brief(),
                        "cannot look for replays; it is tried again"
                    );
                }
            }
        }
    }

    async fn answer_all(&self, stop: &mut watch::Receiver<bool>) -> Result<(), StoreError> {
        loop {
            // A server that is silent must not hold up a shutdown: nothing has begun yet.
            let next = tokio::select! {
                biased;
                () = stopped(stop) => return Ok(()),
                next = self.next() => next?,
            };
            match next {
                Some((id, Some(letter))) => drop(self.replay(&id, letter).await?),
                Some((_, None)) => {}
                None => return Ok(()),
            }
        }
    }

    /// Takes the oldest letter that is asked for; no letter when it is gone by then.
    async fn next(&self) -> Result<Option<(String, Option<DeadLetter>)>, StoreError> {
        let requested = DeadLetterFilter::default()
            .runtime(&*self.runtime)
            .awaits_replay();
        let Some(oldest) = self.store.list(&requested, None, 1).await?.pop() else {
            return Ok(None);
        };
        let letter = self.take(&oldest.id).await?;
        Ok(Some((oldest.id, letter)))
    }

    /// Replays the letters of this runtime that `filter` lets through, oldest first.
    pub(crate) async fn replay_all(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<(String, ReplayOutcome)>, StoreError> {
        let filter = filter.clone().runtime(&*self.runtime);
        let mut outcomes = Vec::new();
        let mut last = None;
        loop {
            let page = self.store.list(&filter, last.as_ref(), PAGE).await?;
            for letter in &page {
                let request = ReplayMark::Requested { by: None };
                self.store.mark(&letter.id, &request).await?;
                let outcome = match self.take(&letter.id).await? {
                    Some(taken) => self.replay(&letter.id, taken).await?,
                    None => ReplayOutcome::Gone,
                };
                outcomes.push((letter.id.clone(), outcome));
            }
            last = page.into_iter().last();
            if last.is_none() {
                return Ok(outcomes);
            }
        }
    }

    /// Marks a requested letter as begun with.
    async fn take(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        match self.store.mark(id, &ReplayMark::Taken).await? {
            true => self.store.get(id).await,
            false => Ok(None),
        }
    }

    /// Does what is requested of a letter that was taken.
    async fn replay(&self, id: &str, letter: DeadLetter) -> Result<ReplayOutcome, StoreError> {
        let outcome = match self.call(&letter).await {
            Ok(outcome) => outcome,
            Err(reason) => {
                tracing::warn!(id, reason, "refused to replay a dead letter");
                let refused = ReplayMark::Refused {
                    reason: reason.clone(),
                };
                self.store.mark(id, &refused).await?;
                return Ok(ReplayOutcome::Refused(reason));
            }
        };
        if outcome == Outcome::DeadLettered
            && let Some(written) = self.persistently(|| self.store.get(id)).await
            && written.summary().replay.is_none()
        {
            return Ok(ReplayOutcome::FailedAgain(Box::new(
                written.summary().clone(),
            )));
        }
        // Either all is done, or the handler is, and what could not be delivered has letters of its own.
        self.persistently(|| self.store.remove(id)).await;
        tracing::info!(id, "replayed a dead letter");
        Ok(ReplayOutcome::Replayed)
    }

    /// Runs the letter through its stack; an error says why that is not possible.
    async fn call(&self, letter: &DeadLetter) -> Result<Outcome, String> {
        let runtime = &self.runtime;
        let change = RawChange::new(letter.change().as_bytes().to_vec());
        let change = change
            .map_err(|error| format!("the letter holds no event that can be read: {error}"))?;
        match letter.sink() {
            None => {
                let (name, stacks) =
                    self.handlers
                        .get_key_value(letter.handler())
                        .ok_or_else(|| {
                            format!(
                                "runtime `{runtime}` has no handler named `{}`",
                                letter.handler()
                            )
                        })?;
                let request = ChangeRequest::new(change, Arc::clone(name), Turn::default());
                let Ok(outcome) = stacks.stack().oneshot(request).await;
                Ok(outcome)
            }
            Some(sink) => {
                let stack = self
                    .sinks
                    .get(sink)
                    .ok_or_else(|| format!("runtime `{runtime}` has no sink named `{sink}`"))?;
                let delivery = Delivery::again(letter, change)
                    .ok_or("the letter holds no message to deliver")?;
                Ok(stack.deliver(delivery).await)
            }
        }
    }

    /// Tries until the store does it: what was replayed is not to be replayed again.
    async fn persistently<T, F>(&self, mut attempt: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut failures = 0;
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => {
                    failures += 1;
                    let wait = BACKOFF.wait(failures);
                    tracing::error!(
                        error = error.brief(),
                        ?wait,
                        "the end of a replay cannot be noted; it is tried again"
                    );
                    sleep(wait).await;
                }
            }
        }
    }
}

impl fmt::Debug for Replayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replayer")
            .field("runtime", &self.runtime)
            .finish_non_exhaustive()
    }
}
