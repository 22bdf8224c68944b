//! Replays: a dead letter goes once more into the handler, or to the sink, that failed.
//!
//! A replay is a mark on its letter, made by whoever asks ([`Replay`]) and carried out by the runtime, where
//! the handlers live (`Replayer`). The mark goes with the letter when the replay succeeds, and is
//! overwritten with the letter when it fails again; while it is there, the replay is unfinished, whatever
//! happened to the runtime meanwhile.

mod replayer;
mod request;

pub use request::{Replay, ReplayError};

#[cfg(feature = "testing")]
pub(crate) use replayer::Replayer;

use crate::dead_letter::DeadLetterSummary;

/// What came of a replay.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReplayOutcome {
    /// It succeeded, and the letter is gone. Of the messages that the handler returned, those that could
    /// not be delivered are dead letters of their own.
    Replayed,
    /// It failed again; the letter says how.
    FailedAgain(Box<DeadLetterSummary>),
    /// It was not tried, for this reason, as when the runtime has no such handler; the letter stays.
    Refused(String),
    /// There is no such letter (any more).
    Gone,
}
