//! Stores that fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use async_trait::async_trait;
use changestream::{
    Checkpoint, CheckpointStore, DeadLetter, DeadLetterStore, MemoryDeadLetters, Saved, StoreError,
};

/// How a store fails. Clones fail together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    is_down: Arc<AtomicBool>,
    /// Whether it does what it was asked before it fails.
    loses_replies: bool,
    failures: Arc<AtomicU32>,
}

impl Faults {
    pub(crate) fn down() -> Self {
        let faults = Self::default();
        faults.is_down.store(true, Ordering::SeqCst);
        faults
    }

    pub(crate) fn losing_replies() -> Self {
        Self {
            loses_replies: true,
            ..Self::down()
        }
    }

    pub(crate) fn heal(&self) {
        self.is_down.store(false, Ordering::SeqCst);
    }

    /// How often it has failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Ordering::SeqCst)
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !self.is_down.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.failures.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::new("the store is down"))
    }
}

/// A checkpoint store that fails to save.
#[derive(Clone, Debug)]
pub(crate) struct FaultyCheckpoints<C> {
    pub(crate) inner: C,
    pub(crate) faults: Faults,
}

#[async_trait]
impl<C: CheckpointStore> CheckpointStore for FaultyCheckpoints<C> {
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.load(runtime).await
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        if self.faults.loses_replies {
            let saved = self.inner.save(runtime, checkpoint).await;
            return self.faults.check().and(saved);
        }
        self.faults.check()?;
        self.inner.save(runtime, checkpoint).await
    }
}

/// A dead-letter store in memory that fails to write.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDeadLetters {
    pub(crate) inner: MemoryDeadLetters,
    pub(crate) faults: Faults,
}

#[async_trait]
impl DeadLetterStore for FaultyDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.faults.check()?;
        self.inner.write(letter).await
    }
}
