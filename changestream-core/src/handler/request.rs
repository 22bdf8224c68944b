use std::sync::Arc;

use tracing::Span;

use super::HandlerError;
use crate::{
    dead_letter::DeadLetter, event::RawChange, extract::TransactionSlot, lane::Turn,
    layer::StackRequest,
};

/// What a handler's service is called with: one change event and where it stands.
#[derive(Clone, Debug)]
pub struct ChangeRequest {
    pub(crate) change: RawChange,
    pub(crate) handler: Arc<str>,
    pub(crate) attempt: Attempt,
    pub(crate) turn: Turn,
    pub(crate) transaction: Option<TransactionSlot>,
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
            handler,
            attempt: Attempt::FIRST,
            turn,
            transaction: None,
        }
    }

    /// The event.
    pub fn change(&self) -> &RawChange {
        &self.change
    }

    /// The name of the handler that is called.
    pub fn handler(&self) -> &str {
        &self.handler
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

    fn span(&self) -> Span {
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
