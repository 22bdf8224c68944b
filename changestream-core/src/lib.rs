//! The engine of [`changestream`](https://docs.rs/changestream): filters, source, tower stack, checkpoints
//! and dead letters. Applications depend on `changestream`, which re-exports all of this.

mod bson_path;
mod builder;
mod checkpoint;
mod config;
mod connection;
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
mod key;
mod lane;
mod layer;
mod lease;
mod message;
mod replay;
mod route;
mod runtime;
mod shutdown;
#[cfg(test)]
mod simulation;
mod sink;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod tracker;

pub use builder::RuntimeBuilder;
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
pub use extract::{Change, FromChange, FullDocument, Need, Needs, PreImage, Rejection, State};
pub use filter::{FieldPath, Filter, InvalidPath};
pub use gap::{Gap, GapKind};
pub use handler::{
    Attempt, BoxHandler, ChangeRequest, Disposition, FailureKind, Handler, HandlerError,
    HandlerSpec,
};
pub use health::{Health, RuntimeState};
pub use layer::Backoff;
pub use lease::{Lease, LeaseStore, MemoryLeases, MongoLeases};
pub use message::{IntoMessages, Message, RelaxedJson};
pub use replay::{Replay, ReplayError, ReplayOutcome};
pub use runtime::Runtime;
pub use shutdown::shutdown_signal;
pub use sink::{BoxSink, Delivery, SinkSpec};
pub use source::{OnInvalidate, OnLostHistory, OnMissingImage, OnOversizeEvent, StartAt};
