//! Leases: which of several replicas of a runtime is the active one.

mod memory;
mod mongodb;
mod replica;

pub use memory::MemoryLeases;
pub use mongodb::MongoLeases;

pub(crate) use replica::{LOOK, Replica, Tenure};

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::error::StoreError;

/// A lease as its store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Who holds it, or held it until it ran out; `None` once it was released.
    pub holder: Option<String>,
    /// Grows by one with every change of holder.
    pub epoch: i64,
    /// How long it still runs, on the store's clock; zero once it has run out.
    pub remaining: Duration,
}

impl Lease {
    /// The lease of `holder` in this epoch, with so much of it left: for implementors of [`LeaseStore`].
    pub fn new(holder: Option<String>, epoch: i64, remaining: Duration) -> Self {
        Self {
            holder,
            epoch,
            remaining,
        }
    }

    /// Whether it is `holder` who has it.
    pub fn is_held_by(&self, holder: &str) -> bool {
        self.holder.as_deref() == Some(holder)
    }

    /// Whether anybody may have it.
    pub fn is_free(&self) -> bool {
        self.holder.is_none() || self.remaining.is_zero()
    }
}

/// Where the replicas of a runtime agree on which of them is active.
///
/// Each call is one atomic step, and all of them go by one clock: the store's. A holder's name is used for one
/// tenure only, so that a call may be repeated when its reply was lost.
#[async_trait]
pub trait LeaseStore: fmt::Debug + Send + Sync + 'static {
    /// The lease `name`; `None` where it was never held.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    async fn load(&self, name: &str) -> Result<Option<Lease>, StoreError>;

    /// The leases of these names, in their order, as [`load`](Self::load) has each: in one step where the store can.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    async fn load_all(&self, names: &[String]) -> Result<Vec<Option<Lease>>, StoreError> {
        let mut leases = Vec::new();
        for name in names {
            leases.push(self.load(name).await?);
        }
        Ok(leases)
    }

    /// Gives the lease `name` to `holder` for `time`, if it is free or already its own, and returns the lease
    /// as it is then. With a new holder the epoch grows by one, and is above `above` in any case.
    ///
    /// # Errors
    ///
    /// When the store fails. It may have done what it was asked nevertheless.
    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        time: Duration,
        above: i64,
    ) -> Result<Lease, StoreError>;

    /// Lets the holder of `lease` have it for `time` from now on, if it still does, and returns the lease as it
    /// is then. A store that has lost it altogether, as when its database was dropped, takes it back.
    ///
    /// # Errors
    ///
    /// When the store fails. It may have done what it was asked nevertheless.
    async fn renew(&self, name: &str, lease: &Lease, time: Duration) -> Result<Lease, StoreError>;

    /// Frees the lease `name`, if `holder` has it.
    ///
    /// # Errors
    ///
    /// When the store fails. Then the lease runs out by itself.
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;
}
