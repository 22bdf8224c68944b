use std::{fmt, time::Duration};

use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};

use super::{Batched, Delivery, Place};
use crate::{
    error::BoxError,
    handler::{HandlerError, PolicyOverrides},
    layer::{self, OnSinkDown, SharedLayer},
    message::Message,
    template::Template,
};

/// A sink with its layers, its type erased.
pub type BoxSink = BoxCloneSyncService<Delivery, (), HandlerError>;

/// A sink and how it is set up. Any tower service of [`Delivery`] turns into one.
pub struct SinkSpec {
    pub(crate) service: BoxSink,
    pub(crate) policy: PolicyOverrides,
    pub(crate) on_down: OnSinkDown,
    pub(crate) concurrency: usize,
    pub(crate) layers: Vec<SharedLayer<BoxSink>>,
    /// Where it takes values of.
    pub(crate) places: Vec<Place>,
}

impl SinkSpec {
    /// A sink with a timeout of 10 s per attempt, 3 retries, a first wait of at most 1 s, 64 deliveries at a time, and
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
            concurrency: 64,
            layers: Vec::new(),
            places: Vec::new(),
        }
    }

    /// A sink that takes up to `max` deliveries at once: those that come while it is busy with others. It is given two
    /// batches at a time, and never waits for a batch to fill.
    ///
    /// Deliveries of one key are never under way together, unless they are of two handlers. [`HandlerError::partial`] names those
    /// that failed, by their places; any other error is every delivery's. Each has its own timeout, retries and dead
    /// letter, and the batch goes on for the others where one has run out of time: the next one waits for its end, for nothing of a
    /// key must overtake it.
    ///
    /// # Panics
    ///
    /// When `max` is 0.
    ///
    /// # Example
    ///
    /// ```
    /// use changestream_core::{Delivery, HandlerError, SinkSpec};
    /// use tower::service_fn;
    ///
    /// let sink = SinkSpec::batched(100, service_fn(|batch: Vec<Delivery>| async move {
    ///     println!("{} messages in one request", batch.len());
    ///     Ok::<_, HandlerError>(())
    /// }));
    /// ```
    pub fn batched<S>(max: usize, sink: S) -> Self
    where
        S: Service<Vec<Delivery>, Response = ()> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self::new(Batched::new(max, sink)).concurrency(max.saturating_mul(2))
    }

    /// Says that the sink renders these templates, so that the server is asked for the documents that they take
    /// values of, for every handler that sends here.
    #[must_use]
    pub fn renders<'a>(mut self, templates: impl IntoIterator<Item = &'a Template>) -> Self {
        for template in templates {
            self.places.extend(template.places().cloned());
        }
        self
    }

    /// Sends what `map` makes of each message: the receiver's own payload. `None` is nothing to send, and counts as
    /// delivered.
    ///
    /// Every attempt begins with the handler's message, as does a replay of its dead letter.
    ///
    /// # Example
    ///
    /// ```
    /// use changestream_core::{Delivery, HandlerError, Message, SinkSpec};
    /// # use tower::service_fn;
    /// # let search = service_fn(|_: Delivery| async { Ok::<_, HandlerError>(()) });
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Product {
    ///     name: String,
    /// }
    ///
    /// let sink = SinkSpec::from(search).map(|delivery: &Delivery| {
    ///     let product: Product = delivery.message().parse_json()?;
    ///     Ok(Some(Message::json(&product.name)?))
    /// });
    /// ```
    #[must_use]
    pub fn map<F>(mut self, map: F) -> Self
    where
        F: Fn(&Delivery) -> Result<Option<Message>, HandlerError> + Clone + Send + Sync + 'static,
    {
        self.layers.push(mapping(map));
        self
    }

    /// The same, before all that was set on the sink.
    pub(crate) fn map_first<F>(&mut self, map: F)
    where
        F: Fn(&Delivery) -> Result<Option<Message>, HandlerError> + Clone + Send + Sync + 'static,
    {
        self.layers.insert(0, mapping(map));
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

    /// How many deliveries are under way at a time, 64 by default; of those that wait the most urgent is next, by
    /// [`Message::priority`]. Of a sink of batches it is twice what a batch holds, by default: as many gather while others
    /// are sent.
    ///
    /// There are never more than events [in flight](crate::RuntimeBuilder::in_flight_events), and one for each key.
    #[must_use]
    pub fn concurrency(mut self, deliveries: usize) -> Self {
        self.concurrency = deliveries;
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

fn mapping<F>(map: F) -> SharedLayer<BoxSink>
where
    F: Fn(&Delivery) -> Result<Option<Message>, HandlerError> + Clone + Send + Sync + 'static,
{
    layer::shared(move |inner: BoxSink| {
        let map = map.clone();
        boxed(tower::service_fn(move |delivery: Delivery| {
            let mapped = map(&delivery);
            let inner = inner.clone();
            async move {
                match mapped? {
                    Some(message) => inner.oneshot(delivery.with_message(message)).await,
                    None => Ok(()),
                }
            }
        }))
    })
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
            .field("concurrency", &self.concurrency)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}
