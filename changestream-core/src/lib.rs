//! The engine of [`changestream`](https://docs.rs/changestream): filters, source, tower stack, checkpoints
//! and dead letters. Applications depend on `changestream`, which re-exports all of this.

/// So that the rules of `fuzz/` are tests here too.
#[cfg(test)]
extern crate self as changestream_core;

mod bson_path;
mod bson_walk;
mod builder;
mod checkpoint;
mod collection;
mod config;
mod connection;
#[doc(hidden)]
pub mod crash_point;
mod dead_letter;
mod decode;
mod engine;
mod error;
mod event;
mod extract;
mod filter;
mod gap;
mod handler;
mod health;
#[cfg(any(fuzzing, test, feature = "testing"))]
#[doc(hidden)]
pub mod internals;
mod json;
mod key;
mod lane;
mod layer;
mod lease;
mod message;
mod mutant;
mod partition;
mod processed;
mod replay;
mod route;
mod running;
mod runtime;
/// What `#[on_change]` writes calls of.
#[doc(hidden)]
pub mod borrowing {
    pub use crate::handler::borrowing::{check_whole, each, items};
}
/// What the sink of MongoDB does as the stores here do.
#[doc(hidden)]
pub mod server {
    pub use crate::{connection::close_if_unauthorized, error::brief};
}
mod shutdown;
#[cfg(test)]
mod simulation;
mod sink;
mod snapshot;
mod source;
mod template;
#[cfg(feature = "testing")]
pub mod testing;
mod tracker;

pub use builder::RuntimeBuilder;
pub(crate) use crash_point::crash_point;

pub use checkpoint::{
    Checkpoint, CheckpointStore, Claimed, MemoryCheckpoints, MongoCheckpoints, ResumePoint, Saved,
    StoredCheckpoint,
};
pub use dead_letter::{
    DeadLetter, DeadLetterFilter, DeadLetterStore, DeadLetterSummary, MemoryDeadLetters,
    MongoDeadLetters, ReplayMark, ReplayRequest,
};
pub use decode::DecodeError;
pub use error::{BoxError, Error, StoreError};
pub use event::{
    ClusterTime, DocumentKey, EventId, Namespace, Operation, RawChange, ResumeToken,
    TruncatedArray, UpdateDescription,
};
pub use extract::{
    BorrowFromChange, Change, FromBatch, FromChange, FullDocument, Need, Needs, PreImage, Reads,
    Rejection, Scratch, State, Transaction,
};
pub use filter::{FieldPath, Filter, InvalidPath};
pub use gap::{Gap, GapKind};
pub use handler::{
    Attempt, BatchHandler, BoxHandler, ChangeRequest, Disposition, FailureKind, Handler,
    HandlerError, HandlerSpec,
};
pub use health::{Health, RuntimeState};
pub use json::Json;
pub use layer::{Backoff, OnSinkDown};
pub use lease::{Lease, LeaseStore, MemoryLeases, MongoLeases};
pub use message::{IntoMessages, Message, Priority};
pub use partition::Partitioning;
pub use processed::{MemoryProcessed, MongoProcessed, ProcessedStore};
pub use replay::{Replay, ReplayError, ReplayOutcome};
pub use runtime::Runtime;
pub use shutdown::shutdown_signal;
pub use sink::{BoxSink, Delivery, Route, Routes, SinkSpec};
pub use snapshot::{
    MemorySnapshots, MongoSnapshots, Snapshot, SnapshotRange, SnapshotRecord, SnapshotStore,
    Snapshots,
};
pub use source::{
    OnInvalidate, OnLostHistory, OnMissingImage, OnOversizeEvent, Projection, StartAt,
};
pub use template::Template;
