use std::sync::Arc;

use tracing::Span;

use crate::{
    dead_letter::DeadLetter,
    event::{EventId, RawChange},
    handler::{Attempt, ChangeRequest, HandlerError},
    key,
    lane::Turn,
    layer::{StackRequest, Target},
    message::Message,
};

/// One message on its way to one sink.
///
/// A sink is a tower service of deliveries, whose future resolves when the receiver has acknowledged.
/// Its error says what happens next, as a handler's does.
///
/// # Example
///
/// ```
/// use changestream_core::{Delivery, HandlerError, SinkSpec};
/// use tower::service_fn;
///
/// let sink = SinkSpec::new(service_fn(|delivery: Delivery| async move {
///     println!("{}: {} bytes", delivery.event_id(), delivery.message().payload().len());
///     Ok::<_, HandlerError>(())
/// }));
/// ```
#[derive(Clone, Debug)]
pub struct Delivery {
    parts: Arc<Parts>,
    attempt: Attempt,
    turn: Turn,
}

/// What all attempts share.
#[derive(Debug)]
struct Parts {
    message: Message,
    change: RawChange,
    runtime: Arc<str>,
    handler: Arc<str>,
    sink: Arc<str>,
    index: usize,
}

impl Delivery {
    pub(crate) fn new(
        message: Message,
        request: &ChangeRequest,
        target: &Target,
        sink: Arc<str>,
        index: usize,
    ) -> Self {
        let key = || key::key(&request.change, target.key.as_ref()).map(key::text);
        let parts = Parts {
            message: message.or_key(key),
            change: request.change.clone(),
            runtime: Arc::clone(&target.runtime),
            handler: Arc::clone(&request.handler),
            sink,
            index,
        };
        Self::of(parts, request.turn.beside_lane())
    }

    /// The delivery of a dead letter, once more.
    pub(crate) fn again(letter: &DeadLetter, change: RawChange) -> Option<Self> {
        let parts = Parts {
            message: letter.message()?.clone(),
            change,
            runtime: letter.runtime().into(),
            handler: letter.handler().into(),
            sink: letter.sink()?.into(),
            index: letter.index()?,
        };
        Some(Self::of(parts, Turn::default()))
    }

    fn of(parts: Parts, turn: Turn) -> Self {
        Self {
            parts: Arc::new(parts),
            attempt: Attempt::FIRST,
            turn,
        }
    }

    /// What is sent.
    pub fn message(&self) -> &Message {
        &self.parts.message
    }

    /// The same delivery of another message, with the key of this one where it has none of its own: what a layer does
    /// that gives a receiver a shape of its own.
    #[must_use]
    pub fn with_message(self, message: Message) -> Self {
        let parts = &*self.parts;
        let parts = Parts {
            message: message.or_key(|| parts.message.get_key().map(str::to_owned)),
            change: parts.change.clone(),
            runtime: Arc::clone(&parts.runtime),
            handler: Arc::clone(&parts.handler),
            sink: Arc::clone(&parts.sink),
            index: parts.index,
        };
        Self {
            parts: Arc::new(parts),
            ..self
        }
    }

    /// The event that the message is about.
    pub fn change(&self) -> &RawChange {
        &self.parts.change
    }

    /// The id of the event: the same on every attempt and after every restart.
    pub fn event_id(&self) -> EventId {
        self.parts.change.event_id()
    }

    /// The id of this delivery, which tells apart messages of one event: event, handler, and the
    /// message's place among those that the handler returned. As stable as the event's id.
    pub fn id(&self) -> String {
        format!(
            "{}/{}/{}",
            self.event_id(),
            self.parts.handler,
            self.parts.index
        )
    }

    /// The name of the runtime that sends.
    pub fn runtime(&self) -> &str {
        &self.parts.runtime
    }

    /// The name of the handler that returned the message.
    pub fn handler(&self) -> &str {
        &self.parts.handler
    }

    /// The name of the sink.
    pub fn sink(&self) -> &str {
        &self.parts.sink
    }

    /// Which attempt at this delivery it is.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }
}

impl StackRequest for Delivery {
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
        tracing::info_span!("delivery", sink = %self.parts.sink, index = self.parts.index, attempt = self.attempt.0)
    }

    fn dead_letter(&self, runtime: &str, error: &HandlerError) -> DeadLetter {
        DeadLetter::new(runtime, &self.parts.handler, &self.parts.change, error).of_delivery(
            &self.parts.sink,
            self.parts.index,
            &self.parts.message,
        )
    }
}
