//! Which events were processed, so that a redelivered one is not handled again.

mod memory;
mod mongodb;
mod sessions;
mod transactions;

pub use memory::MemoryProcessed;
pub use mongodb::MongoProcessed;

pub(crate) use transactions::{Claim, Transactions};

use std::fmt;

use async_trait::async_trait;

use crate::{error::StoreError, event::EventId};

/// Remembers which events were processed, for [`RuntimeBuilder::deduplicate`] and
/// [`HandlerSpec::deduplicate`].
///
/// An id names the runtime, the handler and the event, as `runtime/handler/event_id`. A store that fails
/// is asked again and again; the event waits.
///
/// [`RuntimeBuilder::deduplicate`]: crate::RuntimeBuilder::deduplicate
/// [`HandlerSpec::deduplicate`]: crate::HandlerSpec::deduplicate
#[async_trait]
pub trait ProcessedStore: fmt::Debug + Send + Sync + 'static {
    /// Makes the store ready, before the first event; nothing by default.
    ///
    /// # Errors
    ///
    /// When it cannot be made ready. The runtime then does not start.
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether `id` is recorded.
    ///
    /// # Errors
    ///
    /// When that cannot be found out.
    async fn contains(&self, id: &str) -> Result<bool, StoreError>;

    /// Records `id`; done when it is durable. Recording it again is no error.
    ///
    /// # Errors
    ///
    /// When it cannot be recorded.
    async fn record(&self, id: &str) -> Result<(), StoreError>;
}

/// What one handler's processing of one event is recorded as.
pub(crate) fn id(runtime: &str, handler: &str, event: EventId) -> String {
    format!("{runtime}/{handler}/{event}")
}
