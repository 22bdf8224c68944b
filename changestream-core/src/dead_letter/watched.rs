use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::timeout;

use super::{DeadLetter, DeadLetterFilter, DeadLetterStore, DeadLetterSummary, ReplayMark};
use crate::{
    error::StoreError,
    health::{HealthReporter, Part},
};

/// A runtime's dead-letter store, from which an answer that does not come in time is a failure, and which tells the
/// runtime's health while letters cannot be written.
#[derive(Clone, Debug)]
pub(crate) struct WatchedDeadLetters(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    store: Arc<dyn DeadLetterStore>,
    patience: Duration,
    health: HealthReporter,
    /// The letters that could not be written so far, and are tried again.
    unwritten: Mutex<HashSet<String>>,
}

/// Dropped when work ends, whose letters nobody tries to write any more.
#[derive(Debug)]
pub(crate) struct Writing<'a>(&'a Watched);

impl WatchedDeadLetters {
    pub(crate) fn new(
        store: Arc<dyn DeadLetterStore>,
        patience: Duration,
        health: HealthReporter,
    ) -> Self {
        Self(Arc::new(Watched {
            store,
            patience,
            health,
            unwritten: Mutex::default(),
        }))
    }

    /// For as long as work is done.
    pub(crate) fn writing(&self) -> Writing<'_> {
        Writing(&self.0)
    }
}

impl Watched {
    async fn answer<T>(
        &self,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = timeout(self.patience, asking).await;
        answer.unwrap_or_else(|_elapsed| {
            let patience = self.patience;
            Err(StoreError::new(format!(
                "the dead-letter store did not answer for {patience:?}"
            )))
        })
    }

    fn unwritten(&self) -> MutexGuard<'_, HashSet<String>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, letter: &DeadLetter, error: &StoreError) {
        self.unwritten().insert(letter.id().to_owned());
        self.health.interrupted(Part::DeadLetters, error.brief());
    }

    fn wrote(&self, letter: &DeadLetter) {
        let mut unwritten = self.unwritten();
        unwritten.remove(letter.id());
        if unwritten.is_empty() {
            self.health.resumed(Part::DeadLetters);
        }
    }
}

/// Where several partitions work, the letters of the others are noted again when they fail the next time.
impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.unwritten().clear();
        self.0.health.resumed(Part::DeadLetters);
    }
}

#[async_trait]
impl DeadLetterStore for WatchedDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let written = self.0.answer(self.0.store.write(letter)).await;
        match &written {
            Ok(()) => self.0.wrote(letter),
            Err(error) => self.0.failed(letter, error),
        }
        written
    }

    async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterSummary>,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StoreError> {
        let listing = self.0.store.list(filter, after, limit);
        self.0.answer(listing).await
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        self.0.answer(self.0.store.get(id)).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.0.answer(self.0.store.remove(id)).await
    }

    async fn mark(&self, id: &str, mark: &ReplayMark) -> Result<bool, StoreError> {
        self.0.answer(self.0.store.mark(id, mark)).await
    }

    /// Takes its time: indexes of many letters do.
    async fn prepare(&self) -> Result<(), StoreError> {
        self.0.store.prepare().await
    }
}
