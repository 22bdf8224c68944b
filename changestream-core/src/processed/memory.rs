use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::ProcessedStore;
use crate::error::StoreError;

/// The ids of processed events in memory, of which the oldest make room for new ones. Clones share them.
///
/// It is gone after a restart, so that it suppresses only what is delivered twice to one process.
#[derive(Clone, Debug)]
pub struct MemoryProcessed {
    ids: Arc<Mutex<Ids>>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Ids {
    known: HashSet<Arc<str>>,
    oldest_first: VecDeque<Arc<str>>,
}

impl MemoryProcessed {
    /// Keeps at most `capacity` ids, of about 150 bytes each.
    pub fn new(capacity: usize) -> Self {
        Self {
            ids: Arc::default(),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps 65,536 ids.
impl Default for MemoryProcessed {
    fn default() -> Self {
        Self::new(1 << 16)
    }
}

#[async_trait]
impl ProcessedStore for MemoryProcessed {
    async fn contains(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.lock().known.contains(id))
    }

    async fn record(&self, id: &str) -> Result<(), StoreError> {
        let mut ids = self.lock();
        let id = Arc::from(id);
        if ids.known.insert(Arc::clone(&id)) {
            ids.oldest_first.push_back(id);
        }
        if ids.oldest_first.len() > self.capacity
            && let Some(oldest) = ids.oldest_first.pop_front()
        {
            ids.known.remove(&oldest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let store = MemoryProcessed::new(2);
        for id in ["a", "b", "b", "c"] {
            store.record(id).await.expect("memory");
        }
        let mut known = Vec::new();
        for id in ["a", "b", "c"] {
            known.push(store.contains(id).await.expect("memory"));
        }
        assert_eq!(known, [false, true, true]);
    }
}
