use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{SnapshotRecord, SnapshotStore};
use crate::{checkpoint::Saved, error::StoreError};

type Name = (String, String, Option<String>);

/// The progress of snapshots in memory, for tests and for snapshots that begin anew at each start. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemorySnapshots {
    records: Arc<Mutex<HashMap<Name, SnapshotRecord>>>,
}

impl MemorySnapshots {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, SnapshotRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SnapshotStore for MemorySnapshots {
    async fn load(&self, runtime: &str) -> Result<Vec<SnapshotRecord>, StoreError> {
        let records = self.lock();
        let own = records.iter().filter(|((name, ..), _)| name == runtime);
        Ok(own.map(|(_, record)| record.clone()).collect())
    }

    async fn save(&self, runtime: &str, record: &SnapshotRecord) -> Result<Saved, StoreError> {
        let name = (
            runtime.to_owned(),
            record.database.clone(),
            record.collection.clone(),
        );
        let mut records = self.lock();
        let stored = records.get(&name);
        if stored.is_some_and(|stored| stored.epoch > record.epoch) {
            return Ok(Saved::Stale);
        }
        records.insert(name, record.clone());
        Ok(Saved::Yes)
    }
}
