use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Checkpoint, CheckpointStore, Claimed, Saved, StoredCheckpoint};
use crate::{error::StoreError, gap::Gap, partition};

/// Checkpoints in memory, for tests and for streams that need not survive a restart. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryCheckpoints {
    checkpoints: Arc<Mutex<HashMap<String, Checkpoint>>>,
    gaps: Arc<Mutex<Vec<Gap>>>,
}

impl MemoryCheckpoints {
    /// The gaps that were written down so far, oldest first.
    pub fn gaps(&self) -> Vec<Gap> {
        self.lock_gaps().clone()
    }

    fn lock_gaps(&self) -> MutexGuard<'_, Vec<Gap>> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Checkpoint>> {
        self.checkpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CheckpointStore for MemoryCheckpoints {
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.lock().get(runtime).cloned())
    }

    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError> {
        let mut checkpoints = self.lock();
        let stored = checkpoints.entry(runtime.to_owned()).or_default();
        if stored.epoch >= epoch {
            return Ok(Claimed::Stale);
        }
        stored.epoch = epoch;
        Ok(Claimed::Yes(stored.clone()))
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        let mut checkpoints = self.lock();
        let is_stale = |stored: &Checkpoint| {
            stored.epoch != checkpoint.epoch || stored.sequence > checkpoint.sequence
        };
        if checkpoints.get(runtime).is_some_and(is_stale) {
            return Ok(Saved::Stale);
        }
        checkpoints.insert(runtime.to_owned(), checkpoint.clone());
        Ok(Saved::Yes)
    }

    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        let mut gaps = self.lock_gaps();
        gaps.retain(|written| written.id != gap.id);
        gaps.push(gap.clone());
        Ok(())
    }

    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let checkpoints = self.lock();
        let stored = checkpoints
            .iter()
            .map(|(runtime, checkpoint)| StoredCheckpoint {
                runtime: runtime.clone(),
                checkpoint: Ok(checkpoint.clone()),
                saved_at: None,
            });
        let mut stored: Vec<_> = stored.collect();
        stored.sort_by(|a, b| a.runtime.cmp(&b.runtime));
        Ok(stored)
    }

    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        let mut reset = Vec::new();
        for (name, stored) in self.lock().iter_mut() {
            if name != runtime && !partition::is_of(name, runtime) {
                continue;
            }
            let claimed = Checkpoint {
                epoch: stored.epoch,
                ..Checkpoint::default()
            };
            if std::mem::replace(stored, claimed).position.is_some() {
                reset.push(name.clone());
            }
        }
        reset.sort();
        Ok(reset)
    }
}
