//! Checkpoints: how far a runtime has come.

mod checkpointer;
mod memory;
mod mongodb;

pub use memory::MemoryCheckpoints;
pub use mongodb::MongoCheckpoints;

pub(crate) use checkpointer::Checkpointer;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{error::StoreError, event::ResumeToken, gap::Gap};

/// Where a runtime of some name goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Checkpoint {
    /// The last place up to which everything is done.
    pub token: ResumeToken,
    /// How the server is to take the token.
    pub kind: TokenKind,
    /// Which pipeline and options the token came from.
    pub fingerprint: String,
    /// Orders the checkpoints of this runtime: each is above the one before.
    pub sequence: i64,
}

/// How the server is to take a resume token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum TokenKind {
    /// As `resumeAfter`.
    ResumeAfter,
    /// As `startAfter`, which may follow an `invalidate`.
    StartAfter,
    /// As `resumeAfter`; it is the token of a split event. The server takes it only where the event would be
    /// split as before, and its images may have expired. Else the stream goes on from the token's time, and
    /// the event comes again.
    SplitEvent,
}

/// What came of saving a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Saved {
    /// It is durable.
    Yes,
    /// The store holds one that is as new or newer: another runtime of this name writes too.
    Stale,
}

/// Where checkpoints are kept.
#[async_trait]
pub trait CheckpointStore: fmt::Debug + Send + Sync + 'static {
    /// The checkpoint of the runtime named `runtime`; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is none.
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// Saves `checkpoint` durably, unless its sequence is not above the stored one.
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
}
