//! Stores that fail.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use changestream::{
    Checkpoint, CheckpointStore, Claimed, DeadLetter, DeadLetterFilter, DeadLetterStore,
    DeadLetterSummary, Gap, Lease, LeaseStore, MemoryDeadLetters, ReplayMark, Saved,
    SnapshotRecord, SnapshotStore, StoreError, StoredCheckpoint,
};

/// How a store fails. Clones fail together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    is_down: Arc<AtomicBool>,
    /// Whether it does what it was asked before it fails.
    loses_replies: bool,
    /// Whether it fails only to save checkpoints.
    spares_gaps: bool,
    /// Whether it says nothing where it would fail.
    is_silent: bool,
    failures: Arc<AtomicU32>,
}

impl Faults {
    pub(crate) fn down() -> Self {
        let faults = Self::default();
        faults.begin();
        faults
    }

    pub(crate) fn losing_replies() -> Self {
        Self {
            loses_replies: true,
            ..Self::down()
        }
    }

    pub(crate) fn silent() -> Self {
        Self {
            is_silent: true,
            ..Self::down()
        }
    }

    pub(crate) fn of_saves() -> Self {
        Self {
            spares_gaps: true,
            ..Self::down()
        }
    }

    pub(crate) fn begin(&self) {
        self.is_down.store(true, Ordering::SeqCst);
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

    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError> {
        self.inner.claim(runtime, epoch).await
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        if self.faults.loses_replies {
            let saved = self.inner.save(runtime, checkpoint).await;
            return self.faults.check().and(saved);
        }
        self.faults.check()?;
        self.inner.save(runtime, checkpoint).await
    }

    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        if self.faults.loses_replies {
            let recorded = self.inner.record_gap(gap).await;
            return self.faults.check().and(recorded);
        }
        if !self.faults.spares_gaps {
            self.faults.check()?;
        }
        self.inner.record_gap(gap).await
    }

    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.inner.list().await
    }

    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        self.inner.reset(runtime).await
    }
}

/// A checkpoint store that shows nothing of what was saved until it is claimed.
#[derive(Clone, Debug)]
pub(crate) struct OutdatedCheckpoints<C>(pub(crate) C);

#[async_trait]
impl<C: CheckpointStore> CheckpointStore for OutdatedCheckpoints<C> {
    async fn load(&self, _runtime: &str) -> Result<Option<Checkpoint>, StoreError> {
        Ok(None)
    }

    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError> {
        self.0.claim(runtime, epoch).await
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        self.0.save(runtime, checkpoint).await
    }

    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        self.0.record_gap(gap).await
    }

    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.0.list().await
    }

    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        self.0.reset(runtime).await
    }
}

/// A store of the progress of snapshots that fails to save.
#[derive(Clone, Debug)]
pub(crate) struct FaultySnapshots<S> {
    pub(crate) inner: S,
    pub(crate) faults: Faults,
}

#[async_trait]
impl<S: SnapshotStore> SnapshotStore for FaultySnapshots<S> {
    async fn load(&self, runtime: &str) -> Result<Vec<SnapshotRecord>, StoreError> {
        self.inner.load(runtime).await
    }

    async fn save(&self, runtime: &str, record: &SnapshotRecord) -> Result<Saved, StoreError> {
        self.faults.check()?;
        self.inner.save(runtime, record).await
    }
}

/// A dead-letter store in memory that fails to write, mark and remove.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDeadLetters {
    pub(crate) inner: MemoryDeadLetters,
    pub(crate) faults: Faults,
}

#[async_trait]
impl DeadLetterStore for FaultyDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        match self.faults.check() {
            Err(_) if self.faults.is_silent => pending().await,
            checked => checked?,
        }
        self.inner.write(letter).await
    }

    async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterSummary>,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StoreError> {
        self.inner.list(filter, after, limit).await
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.get(id).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.faults.check()?;
        self.inner.remove(id).await
    }

    async fn mark(&self, id: &str, mark: &ReplayMark) -> Result<bool, StoreError> {
        self.faults.check()?;
        self.inner.mark(id, mark).await
    }
}

/// A lease store that fails in everything.
#[derive(Clone, Debug)]
pub(crate) struct FaultyLeases<L> {
    pub(crate) inner: L,
    pub(crate) faults: Faults,
}

impl<L> FaultyLeases<L> {
    async fn fail_or<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.faults.loses_replies {
            let done = work.await;
            return self.faults.check().and(done);
        }
        self.faults.check()?;
        work.await
    }
}

#[async_trait]
impl<L: LeaseStore> LeaseStore for FaultyLeases<L> {
    async fn load(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        self.fail_or(self.inner.load(name)).await
    }

    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        time: Duration,
        above: i64,
    ) -> Result<Lease, StoreError> {
        self.fail_or(self.inner.acquire(name, holder, time, above))
            .await
    }

    async fn renew(&self, name: &str, lease: &Lease, time: Duration) -> Result<Lease, StoreError> {
        self.fail_or(self.inner.renew(name, lease, time)).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.fail_or(self.inner.release(name, holder)).await
    }
}
