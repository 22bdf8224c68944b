use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Lease, LeaseStore};
use crate::error::StoreError;

/// Leases in memory, for the replicas of one process, as in tests. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryLeases {
    leases: Arc<Mutex<HashMap<String, Record>>>,
}

#[derive(Clone, Debug)]
struct Record {
    holder: Option<String>,
    epoch: i64,
    expires_at: Instant,
}

impl Record {
    fn is_held_by(&self, holder: &str) -> bool {
        self.holder.as_deref() == Some(holder)
    }

    fn lease(&self) -> Lease {
        let remaining = self.expires_at.saturating_duration_since(Instant::now());
        Lease::new(self.holder.clone(), self.epoch, remaining)
    }
}

impl MemoryLeases {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LeaseStore for MemoryLeases {
    async fn load(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        Ok(self.lock().get(name).map(Record::lease))
    }

    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        time: Duration,
        above: i64,
    ) -> Result<Lease, StoreError> {
        let mut leases = self.lock();
        let now = Instant::now();
        let record = leases.entry(name.to_owned()).or_insert(Record {
            holder: None,
            epoch: 0,
            expires_at: now,
        });
        if record.is_held_by(holder) {
            record.expires_at = now + time;
        } else if record.lease().is_free() {
            *record = Record {
                holder: Some(holder.to_owned()),
                epoch: record.epoch.max(above) + 1,
                expires_at: now + time,
            };
        }
        Ok(record.lease())
    }

    async fn renew(&self, name: &str, lease: &Lease, time: Duration) -> Result<Lease, StoreError> {
        let mut leases = self.lock();
        let expires_at = Instant::now() + time;
        let record = leases.entry(name.to_owned()).or_insert(Record {
            holder: lease.holder.clone(),
            epoch: lease.epoch,
            expires_at,
        });
        if record.holder.is_some() && record.holder == lease.holder {
            record.expires_at = expires_at;
        }
        Ok(record.lease())
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        if let Some(record) = self.lock().get_mut(name)
            && record.is_held_by(holder)
        {
            record.holder = None;
            record.expires_at = Instant::now();
        }
        Ok(())
    }
}
