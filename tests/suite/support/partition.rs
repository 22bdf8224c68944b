//! Replicas that share the partitions of a runtime.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use changestream::{Lease, LeaseStore, MongoLeases, RuntimeBuilder, StoreError};
use mongodb::Database;

use super::{RUNTIME, Scene, Seen, Started, eventually, recorder};

/// What one replica has, of leases in MongoDB.
#[derive(Clone, Debug)]
pub(crate) struct Holdings {
    inner: MongoLeases,
    holders: Arc<Mutex<BTreeSet<String>>>,
}

impl Holdings {
    pub(crate) fn new(database: &Database) -> Self {
        Self {
            inner: MongoLeases::new(database),
            holders: Arc::default(),
        }
    }

    fn take_note(&self, holder: &str) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.insert(holder.to_owned());
    }

    /// How often the replica asked for a lease anew.
    pub(crate) fn attempts(&self) -> usize {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.len()
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = lease.holder.as_ref();
        !lease.is_free() && holder.is_some_and(|holder| holders.contains(holder))
    }

    /// How many of so many partitions the replica has.
    pub(crate) async fn count(&self, partitions: usize) -> usize {
        let names: Vec<_> = (0..partitions)
            .map(|index| format!("{RUNTIME}/{index}"))
            .collect();
        let leases = self.inner.load_all(&names).await.expect("leases");
        assert_eq!(leases.len(), partitions);
        leases
            .iter()
            .flatten()
            .filter(|lease| self.is_ours(lease))
            .count()
    }
}

#[async_trait]
impl LeaseStore for Holdings {
    async fn load(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        self.inner.load(name).await
    }

    async fn load_all(&self, names: &[String]) -> Result<Vec<Option<Lease>>, StoreError> {
        self.inner.load_all(names).await
    }

    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        time: Duration,
        above: i64,
    ) -> Result<Lease, StoreError> {
        self.take_note(holder);
        self.inner.acquire(name, holder, time, above).await
    }

    async fn renew(&self, name: &str, lease: &Lease, time: Duration) -> Result<Lease, StoreError> {
        self.inner.renew(name, lease, time).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.inner.release(name, holder).await
    }
}

/// One of the replicas of the test's runtime.
pub(crate) struct Replica {
    pub(crate) runtime: Started,
    pub(crate) holdings: Holdings,
    pub(crate) seen: Seen,
}

impl Replica {
    pub(crate) fn start<S>(scene: &Scene<S>, partitions: u32, lease: Duration) -> Self {
        Self::start_with(scene, partitions, |builder| {
            builder.lease(lease).handlers([recorder(&["orders"])])
        })
    }

    pub(crate) fn start_with<S>(
        scene: &Scene<S>,
        partitions: u32,
        build: impl FnOnce(RuntimeBuilder<Seen>) -> RuntimeBuilder<Seen>,
    ) -> Self {
        Self::noting(scene, partitions, Seen::default(), build)
    }

    pub(crate) fn noting<S>(
        scene: &Scene<S>,
        partitions: u32,
        seen: Seen,
        build: impl FnOnce(RuntimeBuilder<Seen>) -> RuntimeBuilder<Seen>,
    ) -> Self {
        let holdings = Holdings::new(&scene.database);
        let builder = scene.runtime(&seen).lease_store(holdings.clone());
        Self {
            runtime: Started::new(build(builder.partitions(partitions))),
            holdings,
            seen,
        }
    }
}

/// Waits until the replicas have so many of the partitions, the most first.
pub(crate) async fn shared_out(replicas: &[&Replica], shares: &[usize]) {
    eventually(&format!("shares of {shares:?}"), async || {
        let mut counts = Vec::new();
        for replica in replicas {
            counts.push(replica.holdings.count(shares.iter().sum()).await);
        }
        counts.sort_by(|a, b| b.cmp(a));
        (counts == shares).then_some(())
    })
    .await;
}

/// Waits until each of the documents came to one of the replicas; none may come twice.
pub(crate) async fn each_seen_once(replicas: &[&Replica], ids: Range<i64>) {
    eventually(&format!("each of {ids:?} is seen once"), async || {
        let all = replicas.iter().flat_map(|replica| replica.seen.ids());
        let mut found: Vec<_> = all.filter(|id| ids.contains(id)).collect();
        found.sort_unstable();
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        found.into_iter().eq(ids.clone()).then_some(())
    })
    .await;
}
