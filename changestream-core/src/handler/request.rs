use std::sync::Arc;

use tracing::Span;

use super::HandlerError;
use crate::{
    dead_letter::DeadLetter,
    event::RawChange,
    extract::TransactionSlot,
    lane::{Receipt, Turn},
    layer::StackRequest,
};

/// What a handler's service is called with: one change event, or a batch of them, and where it stands.
#[derive(Clone, Debug)]
pub struct ChangeRequest {
    pub(crate) change: RawChange,
    /// All events of the call, where it is of a batch; `change` is the first.
    pub(crate) batch: Option<Arc<[BatchItem]>>,
    pub(crate) handler: Arc<str>,
    pub(crate) attempt: Attempt,
    pub(crate) turn: Turn,
    pub(crate) transaction: Option<TransactionSlot>,
}

/// An event of a batch.
#[derive(Clone, Debug)]
pub(crate) struct BatchItem {
    pub(crate) change: RawChange,
    pub(crate) receipt: Receipt,
}

/// Which attempt at handling the event this is; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

impl Attempt {
    pub(crate) const FIRST: Self = Self(1);

    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl ChangeRequest {
    pub(crate) fn new(change: RawChange, handler: Arc<str>, turn: Turn) -> Self {
        Self {
            change,
            batch: None,
            handler,
            attempt: Attempt::FIRST,
            turn,
            transaction: None,
        }
    }

    /// A request of a batch; `None` where there is nothing in it.
    pub(crate) fn of_batch(items: Vec<BatchItem>, handler: Arc<str>, turn: Turn) -> Option<Self> {
        let first = items.first()?.change.clone();
        let batch = Some(items.into());
        Some(Self {
            batch,
            ..Self::new(first, handler, turn)
        })
    }

    /// The events as items, of which a single one is a batch of its own.
    pub(crate) fn items(&self) -> Vec<BatchItem> {
        let alone = || BatchItem {
            change: self.change.clone(),
            receipt: Receipt::default(),
        };
        match &self.batch {
            Some(items) => items.to_vec(),
            None => vec![alone()],
        }
    }

    /// The same request of other events; `None` where there are none.
    pub(crate) fn with_items(&self, items: &[BatchItem]) -> Option<Self> {
        Some(Self {
            change: items.first()?.change.clone(),
            batch: Some(items.into()),
            ..self.clone()
        })
    }

    /// The event; of a batch, the first.
    pub fn change(&self) -> &RawChange {
        &self.change
    }

    /// The events: one, or those of the batch, in the order of the stream.
    pub fn changes(&self) -> impl Iterator<Item = &RawChange> {
        let alone = self.batch.is_none().then_some(&self.change);
        let items = self.batch.as_deref().unwrap_or_default();
        alone
            .into_iter()
            .chain(items.iter().map(|item| &item.change))
    }

    /// The name of the handler that is called.
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// An error where the event is without its documents.
    pub(super) fn check_whole(&self) -> Result<(), HandlerError> {
        match self.change.is_header_only() {
            true => Err(HandlerError::oversize()),
            false => Ok(()),
        }
    }

    /// Which attempt this is.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }
}

impl StackRequest for ChangeRequest {
    fn attempt(&self) -> Attempt {
        self.attempt
    }

    fn set_attempt(&mut self, attempt: Attempt) {
        self.attempt = attempt;
    }

    fn turn(&self) -> &Turn {
        &self.turn
    }

    fn events(&self) -> usize {
        self.batch.as_ref().map_or(1, |items| items.len())
    }

    fn span(&self) -> Span {
        if let Some(items) = &self.batch {
            return tracing::info_span!(
                "batch",
                handler = %self.handler,
                events = items.len(),
                attempt = self.attempt.0,
            );
        }
        tracing::info_span!(
            "change",
            handler = %self.handler,
            namespace = %self.change.namespace(),
            operation = %self.change.operation(),
            event_id = %self.change.event_id(),
            attempt = self.attempt.0,
        )
    }

    fn dead_letter(&self, runtime: &str, error: &HandlerError) -> DeadLetter {
        DeadLetter::new(runtime, &self.handler, &self.change, error)
    }
}
