use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Checkpoint, CheckpointStore, Saved, StoredCheckpoint};
use crate::error::StoreError;

/// Checkpoints in memory, for tests and for streams that need not survive a restart. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryCheckpoints {
    checkpoints: Arc<Mutex<HashMap<String, Checkpoint>>>,
}

impl MemoryCheckpoints {
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

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        let mut checkpoints = self.lock();
        let stored = checkpoints.get(runtime);
        if stored.is_some_and(|stored| stored.sequence >= checkpoint.sequence) {
            return Ok(Saved::Stale);
        }
        checkpoints.insert(runtime.to_owned(), checkpoint.clone());
        Ok(Saved::Yes)
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

    async fn remove(&self, runtime: &str) -> Result<bool, StoreError> {
        Ok(self.lock().remove(runtime).is_some())
    }
}
