//! Sinks: where messages go.

use std::{fmt, sync::Arc, time::Duration};

use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};
use tracing::Span;

use crate::{
    dead_letter::DeadLetter,
    error::BoxError,
    event::{EventId, RawChange},
    handler::{Attempt, ChangeRequest, HandlerError, PolicyOverrides},
    key,
    lane::Turn,
    layer::{self, OnSinkDown, SharedLayer, StackRequest, Target},
    message::Message,
};

/// A sink with its layers, its type erased.
pub type BoxSink = BoxCloneSyncService<Delivery, (), HandlerError>;

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
    message: Message,
    change: RawChange,
    runtime: Arc<str>,
    handler: Arc<str>,
    sink: Arc<str>,
    index: usize,
    attempt: Attempt,
    turn: Turn,
}

impl Delivery {
    pub(crate) fn new(
        message: Message,
        request: &ChangeRequest,
        target: &Target,
        sink: Arc<str>,
        index: usize,
    ) -> Self {
        let message = match message.get_key() {
            Some(_) => message,
            None => match key::key(&request.change, target.key.as_ref()) {
                Some(key) => message.key(key::text(key)),
                None => message,
            },
        };
        Self {
            message,
            change: request.change.clone(),
            runtime: Arc::clone(&target.runtime),
            handler: Arc::clone(&request.handler),
            sink,
            index,
            attempt: Attempt::FIRST,
            turn: request.turn.clone(),
        }
    }

    /// The delivery of a dead letter, once more.
    pub(crate) fn again(letter: &DeadLetter, change: RawChange) -> Option<Self> {
        Some(Self {
            message: letter.message()?.clone(),
            change,
            runtime: letter.runtime().into(),
            handler: letter.handler().into(),
            sink: letter.sink()?.into(),
            index: letter.index()?,
            attempt: Attempt::FIRST,
            turn: Turn::default(),
        })
    }

    /// What is sent.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The event that the message is about.
    pub fn change(&self) -> &RawChange {
        &self.change
    }

    /// The id of the event: the same on every attempt and after every restart.
    pub fn event_id(&self) -> EventId {
        self.change.event_id()
    }

    /// The id of this delivery, which tells apart messages of one event: event, handler, and the
    /// message's place among those that the handler returned. As stable as the event's id.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.event_id(), self.handler, self.index)
    }

    /// The name of the runtime that sends.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The name of the handler that returned the message.
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// The name of the sink.
    pub fn sink(&self) -> &str {
        &self.sink
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
        tracing::info_span!("delivery", sink = %self.sink, index = self.index, attempt = self.attempt.0)
    }

    fn dead_letter(&self, runtime: &str, error: &HandlerError) -> DeadLetter {
        DeadLetter::new(runtime, &self.handler, &self.change, error).of_delivery(
            &self.sink,
            self.index,
            &self.message,
        )
    }
}

/// A sink and how it is set up. Any tower service of [`Delivery`] turns into one.
pub struct SinkSpec {
    pub(crate) service: BoxSink,
    pub(crate) policy: PolicyOverrides,
    pub(crate) on_down: OnSinkDown,
    pub(crate) layers: Vec<SharedLayer<BoxSink>>,
}

impl SinkSpec {
    /// A sink with a timeout of 10 s per attempt, 3 retries, a first wait of at most 1 s, and
    /// [`OnSinkDown::Pause`]. The runtime's own settings are for its handlers and change nothing here.
    pub fn new<S>(sink: S) -> Self
    where
        S: Service<Delivery, Response = ()> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self {
            service: boxed(sink),
            policy: PolicyOverrides::default(),
            on_down: OnSinkDown::default(),
            layers: Vec::new(),
        }
    }

    /// Bounds each attempt at one delivery.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.policy.timeout = Some(timeout);
        self
    }

    /// Retries a failed delivery this often before it becomes a dead letter, or waits where the sink is down; see
    /// [`OnSinkDown`].
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.policy.retries = Some(retries);
        self
    }

    /// The longest wait before the first retry; it doubles with each further one.
    #[must_use]
    pub fn backoff(mut self, backoff: Duration) -> Self {
        self.policy.backoff = Some(backoff);
        self
    }

    /// What happens to deliveries while the sink is down; they wait by default.
    #[must_use]
    pub fn on_down(mut self, on_down: OnSinkDown) -> Self {
        self.on_down = on_down;
        self
    }

    /// Wraps the sink in a tower layer. The first added is the outermost.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxSink> + Send + Sync + 'static,
        L::Service: Service<Delivery, Response = ()> + Clone + Send + Sync + 'static,
        <L::Service as Service<Delivery>>::Error: Into<BoxError>,
        <L::Service as Service<Delivery>>::Future: Send,
    {
        self.layers
            .push(layer::shared(move |inner| boxed(layer.layer(inner))));
        self
    }
}

fn boxed<S>(sink: S) -> BoxSink
where
    S: Service<Delivery, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    BoxSink::new(sink.map_err(|error| HandlerError::from_layer(error.into())))
}

impl<S> From<S> for SinkSpec
where
    S: Service<Delivery, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn from(sink: S) -> Self {
        Self::new(sink)
    }
}

impl fmt::Debug for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkSpec")
            .field("policy", &self.policy)
            .field("on_down", &self.on_down)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}
