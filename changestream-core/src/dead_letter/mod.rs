//! Dead letters: what failed for good, kept whole.

mod filter;
mod letter;
mod memory;
mod mongodb;
mod watched;

pub use filter::DeadLetterFilter;
pub use letter::{DeadLetter, DeadLetterSummary, ReplayRequest};
pub use memory::MemoryDeadLetters;
pub use mongodb::MongoDeadLetters;

pub(crate) use watched::WatchedDeadLetters;

use std::fmt;

use async_trait::async_trait;

use crate::error::StoreError;

/// Where dead letters are kept.
///
/// Their order is that of the stream, and within one event that of their ids: it does not change when a
/// letter is written again.
#[async_trait]
pub trait DeadLetterStore: fmt::Debug + Send + Sync + 'static {
    /// Writes a dead letter; done when it is durable. Writing the same letter again, by its
    /// [`id`](DeadLetter::id), replaces it, a request for its replay included: events come again after a
    /// crash, and replays fail.
    ///
    /// # Errors
    ///
    /// When it cannot be written. It is tried again; the event waits.
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError>;

    /// The first `limit` letters that `filter` lets through, oldest first: those that come after `after`,
    /// which is the last letter of the page before and may be gone by now. Without the events and messages.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterSummary>,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StoreError>;

    /// The whole letter of this id; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is none.
    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError>;

    /// Removes the letter of this id durably; `false` where there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    async fn remove(&self, id: &str) -> Result<bool, StoreError>;

    /// Notes on the letter of this id how its replay stands; `false` where there is no such letter, or it
    /// is in no state for the mark.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    async fn mark(&self, id: &str, mark: &ReplayMark) -> Result<bool, StoreError>;

    /// Makes what lets requests for replays be found quickly, as indexes; nothing by default. A runtime
    /// calls it once, before it looks for them the first time.
    ///
    /// # Errors
    ///
    /// When that cannot be made. Requests are looked for all the same.
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What is noted on a letter about its replay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayMark {
    /// Someone asks for it, now by the store's clock. Replaces an earlier request.
    Requested {
        /// Who asks.
        by: Option<String>,
    },
    /// A runtime begins with what was requested, now by the store's clock.
    Taken,
    /// A runtime cannot do what was requested, for this reason.
    Refused {
        /// Why not.
        reason: String,
    },
    /// Nobody asks for it any more. Only a request that no runtime has taken can be withdrawn.
    Withdrawn,
}
