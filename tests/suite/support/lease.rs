//! Leases of runtimes that crash within one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use changestream::{Lease, LeaseStore, MongoLeases, StoreError};

/// Which holders are still there, of all runtimes of a scene.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders(Arc<Mutex<HashMap<String, Weak<()>>>>);

/// The leases of one runtime, in MongoDB. When that is dropped where it stands, its lease does not have to run
/// out: the next one frees it. So a test of something else neither waits for a lease nor needs one so short
/// that a slow machine loses it.
#[derive(Debug)]
pub(crate) struct SceneLeases {
    inner: MongoLeases,
    holders: Holders,
    alive: Arc<()>,
}

impl SceneLeases {
    pub(crate) fn new(inner: MongoLeases, holders: Holders) -> Self {
        Self {
            inner,
            holders,
            alive: Arc::default(),
        }
    }

    fn take_note(&self, holder: &str) {
        let mut holders = self
            .holders
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        holders.insert(holder.to_owned(), Arc::downgrade(&self.alive));
    }

    fn has_crashed(&self, holder: &str) -> bool {
        let holders = self
            .holders
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let holder = holders.get(holder);
        holder.is_some_and(|alive| alive.strong_count() == 0)
    }
}

#[async_trait]
impl LeaseStore for SceneLeases {
    async fn load(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        self.inner.load(name).await
    }

    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        time: Duration,
        above: i64,
    ) -> Result<Lease, StoreError> {
        self.take_note(holder);
        let lease = self.inner.acquire(name, holder, time, above).await?;
        match &lease.holder {
            Some(other) if self.has_crashed(other) => {
                self.inner.release(name, other).await?;
                self.inner.acquire(name, holder, time, above).await
            }
            _ => Ok(lease),
        }
    }

    async fn renew(&self, name: &str, lease: &Lease, time: Duration) -> Result<Lease, StoreError> {
        self.inner.renew(name, lease, time).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.inner.release(name, holder).await
    }
}
