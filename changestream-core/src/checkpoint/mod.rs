//! Checkpoints: how far a runtime has come.

mod checkpointer;
mod memory;
mod mongodb;
mod record;
mod resume_point;

pub use memory::MemoryCheckpoints;
pub use mongodb::MongoCheckpoints;
pub use resume_point::ResumePoint;

pub(crate) use checkpointer::Checkpointer;
pub(crate) use resume_point::TokenKind;

use record::Record;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::StoreError,
    event::{ClusterTime, ResumeToken},
    gap::Gap,
    partition::{self, Partitioning},
};

/// Where a runtime of some name goes on, and who may say so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
#[non_exhaustive]
pub struct Checkpoint {
    /// The last place up to which everything is done; `None` where a runtime has claimed it and has not saved a
    /// place yet.
    pub position: Option<ResumePoint>,
    /// Which pipeline and options the position came from; empty where there is none.
    pub fingerprint: String,
    /// That of the lease of whoever claimed it last: nobody else can save.
    pub epoch: i64,
    /// Orders the checkpoints of this runtime: none is below the one before. 0 in a stored one that has none, as
    /// those of before there were sequences.
    pub sequence: i64,
    /// How the keys were split into partitions when the position was saved; `None` where they were not.
    pub partitioning: Option<Partitioning>,
}

impl Checkpoint {
    /// The resume token, where the position is one.
    pub fn token(&self) -> Option<&ResumeToken> {
        match self.position.as_ref()? {
            ResumePoint::ResumeAfter(token)
            | ResumePoint::StartAfter(token)
            | ResumePoint::SplitEvent(token) => Some(token),
            ResumePoint::OperationTime(_) => None,
        }
    }

    /// Whether it is at the same place as `other`, whoever has claimed them.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        (&self.position, &self.fingerprint) == (&other.position, &other.fingerprint)
    }

    /// The time of the position, where there is one that tells it.
    pub fn cluster_time(&self) -> Option<ClusterTime> {
        self.position.as_ref()?.cluster_time()
    }
}

/// What came of saving a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Saved {
    /// It is durable.
    Yes,
    /// Another one has claimed it since, or saved a later one: nothing was written.
    Stale,
}

/// What came of claiming a checkpoint.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Claimed {
    /// The checkpoint as it is from now on.
    Yes(Checkpoint),
    /// It was claimed in this epoch or a later one: nothing was changed.
    Stale,
}

/// Where checkpoints are kept.
#[async_trait]
pub trait CheckpointStore: fmt::Debug + Send + Sync + 'static {
    /// The checkpoint of the runtime named `runtime`; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is none, as when its token is broken.
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// Marks the checkpoint of the runtime named `runtime` with `epoch` and returns it, in one atomic step, so
    /// that from then on nobody can save in an earlier epoch. Where there is none yet, it makes one without a
    /// position. The epoch must be above the stored one.
    ///
    /// # Errors
    ///
    /// When it cannot be claimed, or is none.
    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError>;

    /// Saves `checkpoint` durably, if the stored one is of the same epoch and its sequence is not above it, or
    /// if none is stored. Saving the same one again does no harm: the first reply may have been lost.
    ///
    /// # Errors
    ///
    /// When it cannot be saved.
    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError>;

    /// Writes down what is given up of the stream; done when it is durable. Writing the same gap again, by its
    /// [`id`](Gap::id), replaces it: it then reaches further.
    ///
    /// # Errors
    ///
    /// When it cannot be written. It is tried again; the stream waits.
    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError>;

    /// The checkpoints of all runtimes, by name.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError>;

    /// Takes the position, and how the keys are split, from the checkpoint of the runtime named `runtime` and from
    /// those of its [partitions](crate::RuntimeBuilder::partitions), durably, and leaves their epochs. Gives the names of
    /// those that had one, the runtime's own first. The next start is as the first: at its
    /// [`StartAt`](crate::StartAt), and the events before that are not handled. A runtime that runs saves its position
    /// again.
    ///
    /// # Errors
    ///
    /// When that cannot be done, or only for some of them: until it is done again, the runtime goes on from those that
    /// are left.
    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError>;
}

/// A checkpoint as its store lists it.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoredCheckpoint {
    /// The name of the runtime, or of its partition.
    pub runtime: String,
    /// What is stored; an error where that is no checkpoint.
    pub checkpoint: Result<Checkpoint, StoreError>,
    /// When it was saved, by the store's clock, where the store notes that.
    pub saved_at: Option<bson::DateTime>,
}

impl StoredCheckpoint {
    /// The name of the runtime of whose [partition](crate::RuntimeBuilder::partitions) it is; `None` where it is a
    /// runtime's own.
    pub fn partition_of(&self) -> Option<&str> {
        partition::split(&self.runtime).map(|(runtime, _)| runtime)
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_checkpoint_is_where_its_position_and_its_pipeline_are() {
        let token = |text| ResumePoint::ResumeAfter(ResumeToken::new(rawdoc! { "_data": text }));
        let seen = Checkpoint {
            position: Some(token("8263")),
            fingerprint: "f".to_owned(),
            ..Checkpoint::default()
        };
        let claimed = Checkpoint {
            epoch: 7,
            ..seen.clone()
        };
        assert!(seen.is_at(&claimed));
        let (mut moved, mut changed) = (claimed.clone(), claimed);
        moved.position = Some(token("8264"));
        changed.fingerprint = "g".to_owned();
        assert!(!seen.is_at(&moved) && !seen.is_at(&changed));
    }
}
