//! The tower stack around every handler and every sink.
//!
//! Outermost first: [`Trace`], [`Metrics`], [`Deduplicate`] (where asked for), [`Deliver`] (handlers only),
//! [`DeadLetter`], [`Breaker::pausing`] (sinks only), retry, [`Transact`] (handlers that take a transaction), [`Gate`](gate::Gate) and [`Breaker::admitting`] (sinks only),
//! [`Timeout`], [`CatchPanic`], the user's layers, the handler or sink itself. Around a handler of batches, [`Batches`] does the work of those from
//! [`Deduplicate`] to retry.

mod batch;
mod breaker;
mod catch_panic;
mod dead_letter;
mod deduplicate;
mod deliver;
mod gate;
mod image;
mod metrics;
mod retry;
mod stack;
mod timeout;
mod trace;
mod transact;

pub use breaker::OnSinkDown;
pub use retry::Backoff;

pub(crate) use batch::Batches;
pub(crate) use breaker::Breaker;
pub(crate) use catch_panic::CatchPanic;
pub(crate) use dead_letter::DeadLetter;
pub(crate) use deduplicate::Deduplicate;
pub(crate) use deliver::{Deliver, Target, TargetSink};
pub(crate) use image::ImageGuard;
pub(crate) use metrics::{Meter, Metrics};
pub(crate) use retry::RetryPolicy;
pub(crate) use stack::{
    HandlerStack, HandlerStacks, Policy, SinkStack, handler_stacks, sink_stack,
};
pub(crate) use timeout::Timeout;
pub(crate) use trace::Trace;
pub(crate) use transact::Transact;

use std::{fmt, sync::Arc};

use tracing::Span;

use crate::{
    handler::{Attempt, HandlerError},
    lane::Turn,
};

/// What passes through a stack: a call of a handler or of a sink.
pub(crate) trait StackRequest: Clone + Send + 'static {
    fn attempt(&self) -> Attempt;
    fn set_attempt(&mut self, attempt: Attempt);
    /// The turn on its lane, which it gives up while it waits to be tried again.
    fn turn(&self) -> &Turn;
    /// How many events it is about.
    fn events(&self) -> usize {
        1
    }
    fn span(&self) -> Span;
    fn dead_letter(&self, runtime: &str, error: &HandlerError) -> crate::dead_letter::DeadLetter;
}

/// What became of a call once its stack is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    DeadLettered,
}

impl Outcome {
    /// That of both.
    fn and(self, other: Self) -> Self {
        match self {
            Self::Done => other,
            Self::DeadLettered => self,
        }
    }
}

/// A layer with its types erased.
#[derive(Clone)]
pub(crate) struct SharedLayer<T>(Arc<dyn Fn(T) -> T + Send + Sync>);

pub(crate) fn shared<T>(layer: impl Fn(T) -> T + Send + Sync + 'static) -> SharedLayer<T> {
    SharedLayer(Arc::new(layer))
}

impl<T> SharedLayer<T> {
    /// `inner` within `layers`, of which the first is the outermost.
    pub(crate) fn apply_all<'a>(layers: impl DoubleEndedIterator<Item = &'a Self>, inner: T) -> T
    where
        T: 'a,
    {
        layers.rev().fold(inner, |inner, layer| (layer.0)(inner))
    }
}

impl<T> fmt::Debug for SharedLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedLayer")
    }
}
