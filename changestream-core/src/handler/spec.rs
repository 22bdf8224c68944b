use std::{fmt, sync::Arc, time::Duration};

use bson::Document;
use futures::TryFutureExt;
use tower::{Layer, Service, ServiceExt};

use super::{BatchHandler, BatchLimits, BoxHandler, ChangeRequest, Handler, HandlerError};
use crate::{
    error::{BoxError, Error},
    event::Operation,
    extract::{Need, Needs, Reads},
    filter::{FieldPath, InvalidPath, Selection},
    layer::{self, SharedLayer},
    message::Message,
    processed::ProcessedStore,
    sink::{BoundRoute, SinkSpec},
    source::DocumentModes,
};

/// A handler and how it is set up: what `#[on_change(..)]` makes of its annotation, and what can be
/// written by hand.
///
/// # Example
///
/// ```
/// use changestream_core::{DocumentKey, HandlerError, HandlerSpec, Operation};
///
/// async fn deleted(key: DocumentKey) -> Result<(), HandlerError> {
///     Ok(())
/// }
///
/// let spec: HandlerSpec<()> = HandlerSpec::new("deleted", deleted)
///     .collections(["orders"])
///     .operations([Operation::Delete]);
/// assert_eq!(spec.name(), "deleted");
/// ```
pub struct HandlerSpec<S> {
    name: Arc<str>,
    selection: Selection,
    fields: Vec<String>,
    needs: Needs,
    reads: fn() -> Reads,
    batch: Option<BatchLimits>,
    sinks: Vec<String>,
    key: Option<String>,
    policy: PolicyOverrides,
    deduplicate: Option<Arc<dyn ProcessedStore>>,
    layers: Vec<SharedLayer<BoxHandler>>,
    bind: Box<dyn FnOnce(Arc<S>) -> BoxHandler + Send>,
}

/// A handler's own values in place of the runtime's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PolicyOverrides {
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) backoff: Option<Duration>,
}

/// A handler bound to its state: what the runtime is built of.
#[derive(Clone)]
pub(crate) struct BoundHandler {
    pub(crate) name: Arc<str>,
    pub(crate) selection: Selection,
    pub(crate) needs: Needs,
    pub(crate) reads: fn() -> Reads,
    pub(crate) batch: Option<BatchLimits>,
    pub(crate) sinks: Vec<String>,
    /// What may lead its messages to other sinks.
    pub(crate) routes: Vec<BoundRoute>,
    /// What its sinks and routes take of the documents.
    pub(crate) sink_paths: Vec<FieldPath>,
    pub(crate) key: Option<FieldPath>,
    pub(crate) policy: PolicyOverrides,
    pub(crate) deduplicate: Option<Arc<dyn ProcessedStore>>,
    pub(crate) layers: Vec<SharedLayer<BoxHandler>>,
    pub(crate) service: BoxHandler,
}

impl<S: Send + Sync + 'static> HandlerSpec<S> {
    /// A handler named `name` that receives every insert, update, replace and delete of the runtime's
    /// database.
    ///
    /// The name is the handler's identity in dead letters and metrics: keep it when the function is
    /// renamed.
    pub fn new<H, Args>(name: impl Into<String>, handler: H) -> Self
    where
        H: Handler<Args, S>,
        Args: 'static,
    {
        Self::of(name.into(), H::NEEDS, H::reads, move |state| {
            BoxHandler::function(move |request| handler.clone().call(request, &state))
        })
    }

    /// The same for a handler that takes its events in batches, one batch after the other, in the order of the
    /// stream: of at most `max` events, and what there is `within` so much time of the first. It does not wait where
    /// nothing more can come: when the runtime shuts down, or all that may be in flight is.
    ///
    /// An attempt is at a whole batch, and so is its timeout; [`HandlerError::partial`] names the items that failed.
    /// An item that its extractor rejects becomes a dead letter, and the handler is called with the others. A dead
    /// letter that is replayed is a batch of one. Nothing of a batch goes to a sink, and all events of the
    /// handler have one order: it takes neither [`to`](Self::to) nor [`key`](Self::key).
    ///
    /// # Errors
    ///
    /// The runtime is not built when `max` or `within` is zero, or `max` is more than
    /// [`in_flight_events`](crate::RuntimeBuilder::in_flight_events).
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use changestream_core::{Change, HandlerError, HandlerSpec};
    /// # #[derive(serde::Deserialize)]
    /// # struct Product;
    ///
    /// async fn index(products: Vec<Change<Product>>) -> Result<(), HandlerError> {
    ///     // One request to the search engine.
    ///     Ok(())
    /// }
    ///
    /// let spec: HandlerSpec<()> =
    ///     HandlerSpec::batch("index", 500, Duration::from_millis(200), index).collections(["products"]);
    /// ```
    pub fn batch<H, Args>(name: impl Into<String>, max: usize, within: Duration, handler: H) -> Self
    where
        H: BatchHandler<Args, S>,
        Args: 'static,
    {
        let spec = Self::of(name.into(), H::NEEDS, H::reads, move |state| {
            BoxHandler::function(move |request| {
                let call = handler.clone().call(request, &state);
                call.map_ok(|()| Vec::new())
            })
        });
        Self {
            batch: Some(BatchLimits { max, within }),
            ..spec
        }
    }

    fn of(
        name: String,
        needs: Needs,
        reads: fn() -> Reads,
        bind: impl FnOnce(Arc<S>) -> BoxHandler + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            selection: Selection {
                operations: vec![
                    Operation::Insert,
                    Operation::Update,
                    Operation::Replace,
                    Operation::Delete,
                ],
                ..Selection::default()
            },
            fields: Vec::new(),
            needs,
            reads,
            batch: None,
            sinks: Vec::new(),
            key: None,
            policy: PolicyOverrides::default(),
            deduplicate: None,
            layers: Vec::new(),
            bind: Box::new(bind),
        }
    }
}

impl<S> HandlerSpec<S> {
    /// Watches this database instead of the runtime's.
    #[must_use]
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.selection.database = Some(database.into());
        self
    }

    /// Watches these collections instead of the whole database.
    #[must_use]
    pub fn collections<C: Into<String>>(
        mut self,
        collections: impl IntoIterator<Item = C>,
    ) -> Self {
        self.selection.collections = collections.into_iter().map(Into::into).collect();
        self
    }

    /// Receives these operations. With [`Operation::Insert`] go the documents of a
    /// [snapshot](crate::RuntimeBuilder::snapshot), as [`Operation::Snapshot`].
    #[must_use]
    pub fn operations(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.selection.operations = operations.into_iter().collect();
        self
    }

    /// Receives updates and replaces only where one of these fields changed; see [`Filter::Changed`].
    ///
    /// [`Filter::Changed`]: crate::Filter::Changed
    #[must_use]
    pub fn fields<P: Into<String>>(mut self, fields: impl IntoIterator<Item = P>) -> Self {
        self.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// Sends what the handler returns to these sinks.
    #[must_use]
    pub fn to<N: Into<String>>(mut self, sinks: impl IntoIterator<Item = N>) -> Self {
        self.sinks = sinks.into_iter().map(Into::into).collect();
        self
    }

    /// Orders events by the value at this path, and makes it the key of messages that set none, in place
    /// of the document's `_id`.
    ///
    /// The value is taken from the full document, else the pre-image, else the document key; the server is
    /// asked for both images. An event without the value is ordered by its document.
    #[must_use]
    pub fn key(mut self, path: impl Into<String>) -> Self {
        self.key = Some(path.into());
        self
    }

    /// Bounds each attempt at one event, or at one batch.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.policy.timeout = Some(timeout);
        self
    }

    /// Retries a failed event this often before it becomes a dead letter.
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

    /// Skips events that `store` knows this handler to have processed; see
    /// [`RuntimeBuilder::deduplicate`](crate::RuntimeBuilder::deduplicate).
    #[must_use]
    pub fn deduplicate(mut self, store: impl ProcessedStore) -> Self {
        self.deduplicate = Some(Arc::new(store));
        self
    }

    /// Wraps this handler alone in a tower layer, inside the runtime's layers. The first added is the
    /// outermost.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxHandler> + Send + Sync + 'static,
        L::Service: Service<ChangeRequest, Response = Vec<Message>> + Clone + Send + Sync + 'static,
        <L::Service as Service<ChangeRequest>>::Error: Into<BoxError>,
        <L::Service as Service<ChangeRequest>>::Future: Send,
    {
        self.layers.push(handler_layer(layer));
        self
    }

    /// The handler's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the handler's arguments and its [`key`](Self::key) ask of the server, for the operations that it
    /// receives.
    pub fn needs(&self) -> Needs {
        let mut needs = self.needs;
        if self.key.as_deref().is_some_and(|key| key != "_id") {
            let documents = Needs::NONE
                .full_document(Need::Optional)
                .pre_image(Need::Optional);
            needs = needs.and(documents);
        }
        limited(needs, &self.selection)
    }

    /// The exact pipeline of this handler alone, as it can be run on its database: to print, to test, to
    /// try in the shell. A runtime sends the merged pipeline of its handlers, which lets through at
    /// least as much, and makes this exact check itself.
    ///
    /// # Errors
    ///
    /// When a path given to [`fields`](Self::fields) is none.
    pub fn pipeline(&self) -> Result<Vec<Document>, InvalidPath> {
        let selection = Selection {
            database: None,
            ..self.selection()?
        };
        let mut pipeline = vec![DocumentModes::of(self.needs()).stage()];
        pipeline.extend(selection.filter().stages());
        Ok(pipeline)
    }

    fn selection(&self) -> Result<Selection, InvalidPath> {
        let fields = self.fields.iter().map(FieldPath::new);
        Ok(Selection {
            fields: fields.collect::<Result<_, _>>()?,
            ..self.selection.clone()
        })
    }

    pub(crate) fn bind(self, state: Arc<S>) -> Result<BoundHandler, Error> {
        let wrong =
            |problem: String| Error::configuration(format!("handler `{}`: {problem}", self.name));
        let mut selection = self.selection().map_err(|error| wrong(error.to_string()))?;
        // Whoever wants to know of new documents wants those that were there before, too.
        if selection.selects(&Operation::Insert) && !selection.selects(&Operation::Snapshot) {
            selection.operations.push(Operation::Snapshot);
        }
        if self.name.is_empty() {
            return Err(Error::configuration(
                "a handler has an empty name; give it one",
            ));
        }
        if selection.operations.is_empty() {
            return Err(wrong("it receives no operation; name at least one".into()));
        }
        if self.needs.transaction && self.deduplicate.is_some() {
            return Err(wrong(
                "its `Transaction` already skips events that come again; remove `.deduplicate(..)`"
                    .into(),
            ));
        }
        if let Some(limits) = self.batch {
            self.check_batch(limits)
                .map_err(|problem| wrong(problem.to_owned()))?;
        }
        let key = self.key.as_ref().map(FieldPath::new).transpose();
        let key = key.map_err(|error| wrong(error.to_string()))?;
        Ok(BoundHandler {
            needs: self.needs(),
            reads: self.reads,
            selection,
            key,
            service: (self.bind)(state),
            name: self.name,
            batch: self.batch,
            sinks: self.sinks,
            routes: Vec::new(),
            sink_paths: Vec::new(),
            policy: self.policy,
            deduplicate: self.deduplicate,
            layers: self.layers,
        })
    }

    fn check_batch(&self, limits: BatchLimits) -> Result<(), &'static str> {
        match limits {
            BatchLimits { max: 0, .. } => {
                Err("its batches have room for 0 events; let `max` be 1 at least")
            }
            BatchLimits { within, .. } if within.is_zero() => Err(
                "its batches wait for no time; let `within` be 1 ms at least, or take events one by one",
            ),
            _ if self.key.is_some() => {
                Err("it takes batches, in which all its events have one order; remove `key`")
            }
            _ if !self.sinks.is_empty() => {
                Err("it takes batches, and nothing of a batch goes to a sink; remove `to`")
            }
            _ if self.needs.transaction => {
                Err("it takes batches, and a `Transaction` is of one event; take events one by one")
            }
            _ => Ok(()),
        }
    }
}

impl BoundHandler {
    /// Whether all its messages go to a sink, wherever routes lead.
    pub(crate) fn always_sends_to(&self, sink: &str) -> bool {
        self.sinks.iter().any(|to| to == sink)
    }

    /// The routes that may lead its messages to a sink.
    pub(crate) fn routes_to(&self, sink: &str) -> impl Iterator<Item = &BoundRoute> {
        self.routes.iter().filter(move |route| route.is_to(sink))
    }

    /// Whether any of its messages may go to a sink.
    pub(crate) fn may_send_to(&self, sink: &str) -> bool {
        self.always_sends_to(sink) || self.routes_to(sink).next().is_some()
    }

    /// Has its messages led by those of `routes` that concern it, and the events come with what its sinks and these
    /// routes take of them.
    pub(crate) fn set_routes(&mut self, routes: &[BoundRoute], sinks: &[(Arc<str>, SinkSpec)]) {
        if self.batch.is_some() {
            return;
        }
        let concerns = |route: &&BoundRoute| route.concerns(&self.name, &self.selection);
        self.routes = routes.iter().filter(concerns).cloned().collect();
        for route in &self.routes {
            self.sink_paths.extend_from_slice(route.fields());
        }
        let sinks = sinks.iter().filter(|(sink, _)| self.may_send_to(sink));
        let of_sinks = sinks.flat_map(|(_, spec)| &spec.places);
        let of_routes = self.routes.iter().flat_map(BoundRoute::places);
        let places: Vec<_> = of_sinks.chain(of_routes).cloned().collect();
        for place in places {
            self.needs = self.needs.and(limited(place.needs(), &self.selection));
            self.sink_paths.extend(place.document_path().cloned());
        }
    }
}

/// What there can be of these documents where these events are selected.
fn limited(mut needs: Needs, selection: &Selection) -> Needs {
    if !selection.selects(&Operation::Update) {
        needs.full_document = Need::No;
    }
    let has_pre_image = [Operation::Update, Operation::Replace, Operation::Delete];
    if !has_pre_image
        .iter()
        .any(|operation| selection.selects(operation))
    {
        needs.pre_image = Need::No;
    }
    needs
}

/// `layer` with its types erased and its errors brought back to [`HandlerError`].
pub(crate) fn handler_layer<L>(layer: L) -> SharedLayer<BoxHandler>
where
    L: Layer<BoxHandler> + Send + Sync + 'static,
    L::Service: Service<ChangeRequest, Response = Vec<Message>> + Clone + Send + Sync + 'static,
    <L::Service as Service<ChangeRequest>>::Error: Into<BoxError>,
    <L::Service as Service<ChangeRequest>>::Future: Send,
{
    layer::shared(move |inner| {
        let service = layer.layer(inner);
        BoxHandler::new(service.map_err(|error| HandlerError::from_layer(error.into())))
    })
}

impl<S> fmt::Debug for HandlerSpec<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerSpec")
            .field("name", &self.name)
            .field("selection", &self.selection)
            .field("fields", &self.fields)
            .field("needs", &self.needs)
            .field("batch", &self.batch)
            .field("sinks", &self.sinks)
            .field("key", &self.key)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
