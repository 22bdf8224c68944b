use std::sync::Arc;

use bson::Uuid;
use serde::{Deserialize, Serialize};

use super::{Partition, name};
use crate::{
    checkpoint::{Checkpoint, ResumePoint, Saved},
    error::{Error, Kind, StoreError},
    event::ClusterTime,
    lease::LeaseStore,
    runtime::Parts,
};

/// How the keys of a runtime are split into partitions.
///
/// The checkpoint under the runtime's own name says how they are, and where a partition begins that has no
/// checkpoint of the same partitioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Partitioning {
    /// How many partitions there are.
    pub partitions: u32,
    /// The epoch of the runtime's lease in which they were split so.
    pub since: i64,
}

/// Where the partition begins whose checkpoint was claimed as `claimed`.
///
/// To be called with the partition's lease in hand: as long as that is held, nobody splits the keys anew.
pub(crate) async fn begin(
    parts: &Parts,
    partition: Partition,
    claimed: Checkpoint,
) -> Result<Checkpoint, Error> {
    let has_own = |own: &Checkpoint| {
        let partitions = own.partitioning.map(|own| own.partitions);
        own.position.is_some() && partitions == Some(partition.count)
    };
    let runtime = load(parts, &parts.name).await?;
    match runtime.filter(|runtime| runtime.position.is_some()) {
        // It was lost, as with a dropped database; the partition's own is younger than that.
        None if has_own(&claimed) => Ok(claimed),
        Some(runtime) if has_own(&runtime) => {
            let is_own = has_own(&claimed) && claimed.partitioning == runtime.partitioning;
            Ok(match is_own {
                true => claimed,
                false => Checkpoint {
                    position: runtime.position,
                    fingerprint: runtime.fingerprint,
                    partitioning: runtime.partitioning,
                    ..claimed
                },
            })
        }
        _ => Err(Error::new(
            Kind::Repartitioned,
            "other replicas have split the keys of the runtime anew, and their number of partitions is another one",
        )),
    }
}

/// Makes `claimed`, the checkpoint under the runtime's name, one of as many partitions as the runtime has, or of none.
/// To be called with the runtime's lease in hand.
///
/// The leases of all the partitions that there were are taken before, so that nobody works on them any more. The
/// new ones begin where the oldest of the old ones is: nothing is lost, and what others were ahead of it comes again.
///
/// # Errors
///
/// A lost lease, when a replica still has one of the old partitions: it is to be tried again later.
pub(crate) async fn settle(parts: &Parts, mut claimed: Checkpoint) -> Result<Checkpoint, Error> {
    let partitions = Some(parts.config.partitions).filter(|count| *count > 1);
    let count = |partitioning: Option<Partitioning>| partitioning.map(|found| found.partitions);
    if count(claimed.partitioning) == partitions {
        return Ok(claimed);
    }
    let before = match claimed.partitioning {
        // It is new, or it was lost.
        None if claimed.position.is_none() => newest(parts, partitions).await?,
        before => before,
    };
    let taken = Taken::all(parts, before).await?;
    let settled = async {
        if let Some(before) = before {
            claimed.position = oldest(parts, before, claimed.position).await?;
        }
        let since = claimed.epoch;
        claimed.partitioning = match count(before) == partitions {
            true => before,
            false => partitions.map(|partitions| Partitioning { partitions, since }),
        };
        if claimed.position.is_some() {
            claimed.sequence += 1;
            save(parts, &claimed).await?;
        }
        Ok(claimed)
    };
    let settled = settled.await;
    taken.release().await;
    settled
}

/// The newest partitioning that the checkpoints of these partitions tell of.
async fn newest(parts: &Parts, partitions: Option<u32>) -> Result<Option<Partitioning>, Error> {
    let mut newest: Option<Partitioning> = None;
    for index in 0..partitions.unwrap_or_default() {
        let stored = load(parts, &name(&parts.name, index)).await?;
        let found = stored.and_then(|stored| stored.partitioning);
        newest = newest
            .into_iter()
            .chain(found)
            .max_by_key(|found| found.since);
    }
    Ok(newest)
}

/// The oldest place of the partitions; those without one of their own are at `start`.
async fn oldest(
    parts: &Parts,
    partitioning: Partitioning,
    start: Option<ResumePoint>,
) -> Result<Option<ResumePoint>, Error> {
    let mut oldest: Option<ClusterTime> = None;
    for index in 0..partitioning.partitions {
        let name = name(&parts.name, index);
        let stored = load(parts, &name).await?;
        let own = stored.filter(|stored| stored.partitioning == Some(partitioning));
        let place = own.and_then(|own| own.position).or_else(|| start.clone());
        let Some(place) = place else { continue };
        let time = place.cluster_time().ok_or_else(|| {
            let message =
                format!("the time of the checkpoint `{name}` cannot be read out of its token");
            Error::new(Kind::Store, message)
        })?;
        oldest = Some(oldest.map_or(time, |oldest| oldest.min(time)));
    }
    Ok(oldest.map(ResumePoint::OperationTime))
}

async fn load(parts: &Parts, name: &str) -> Result<Option<Checkpoint>, Error> {
    let stored = parts.checkpoints.load(name).await;
    stored.map_err(|error| {
        let message = format!("the checkpoint `{name}` cannot be read; nothing was skipped");
        Error::new(Kind::Store, message).caused_by(error)
    })
}

async fn save(parts: &Parts, checkpoint: &Checkpoint) -> Result<(), Error> {
    match parts.checkpoints.save(&parts.name, checkpoint).await {
        Ok(Saved::Yes) => Ok(()),
        Ok(Saved::Stale) => {
            let message = "another replica has claimed the checkpoint";
            Err(Error::new(Kind::LeaseLost, message))
        }
        Err(error) => {
            let message = "how the keys are split cannot be saved";
            Err(Error::new(Kind::Store, message).caused_by(error))
        }
    }
}

/// The leases of all partitions in one hand.
struct Taken {
    store: Arc<dyn LeaseStore>,
    holder: String,
    names: Vec<String>,
}

impl Taken {
    async fn all(parts: &Parts, partitioning: Option<Partitioning>) -> Result<Self, Error> {
        let mut taken = Self {
            store: Arc::clone(&parts.leases),
            holder: Uuid::new().to_string(),
            names: Vec::new(),
        };
        let count = partitioning.map_or(0, |found| found.partitions);
        for index in 0..count {
            taken.names.push(name(&parts.name, index));
            let error = match taken.last(parts).await {
                Ok(true) => continue,
                Ok(false) => Error::new(
                    Kind::LeaseLost,
                    format!(
                        "the keys are still split into {count} partitions by other replicas; give all of them one \
                         number of partitions, or stop those that have the old one"
                    ),
                ),
                Err(error) => {
                    Error::new(Kind::Store, "the lease of a partition cannot be acquired")
                        .caused_by(error)
                }
            };
            taken.release().await;
            return Err(error);
        }
        Ok(taken)
    }

    /// Whether the last of its names could be had.
    async fn last(&self, parts: &Parts) -> Result<bool, StoreError> {
        let Some(name) = self.names.last() else {
            return Ok(true);
        };
        let time = parts.config.lease;
        let lease = self.store.acquire(name, &self.holder, time, 0).await?;
        Ok(lease.is_held_by(&self.holder))
    }

    async fn release(self) {
        for name in &self.names {
            if let Err(error) = self.store.release(name, &self.holder).await {
                tracing::warn!(
                    error = error.brief(),
                    "the lease of a partition cannot be released; it runs out by itself"
                );
            }
        }
    }
}
