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

use crate::{error::StoreError, event::ResumeToken};

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

    /// The checkpoints of all runtimes, by name.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError>;

    /// Removes the checkpoint of the runtime named `runtime` durably; `false` where there is none. Its next
    /// start is as its first: at its [`StartAt`](crate::StartAt), and the events before that are not
    /// handled. A runtime that runs saves it again.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    async fn remove(&self, runtime: &str) -> Result<bool, StoreError>;
}

/// A checkpoint as its store lists it.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoredCheckpoint {
    /// The name of the runtime.
    pub runtime: String,
    /// What is stored; an error where that is no checkpoint.
    pub checkpoint: Result<Checkpoint, StoreError>,
    /// When it was saved, by the store's clock, where the store notes that.
    pub saved_at: Option<bson::DateTime>,
}
