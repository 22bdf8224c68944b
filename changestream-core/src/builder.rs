use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use mongodb::Database;
use tower::{Layer, Service};

use crate::{
    checkpoint::{CheckpointStore, MongoCheckpoints},
    config::Config,
    dead_letter::{DeadLetterStore, MongoDeadLetters},
    error::{BoxError, Error},
    handler::{BoundHandler, BoxHandler, ChangeRequest, HandlerSpec, handler_layer},
    layer::{SharedLayer, sink_stack},
    message::Message,
    processed::{MongoProcessed, ProcessedStore, Transactions},
    runtime::{Parts, Runtime},
    sink::SinkSpec,
    source::StartAt,
};

/// Puts a [`Runtime`] together. Made by [`Runtime::builder`].
///
/// `S` is the state that handlers extract with [`State`](crate::State), `D` where events come from.
#[must_use]
pub struct RuntimeBuilder<S, D = Database> {
    source: D,
    name: Option<String>,
    state: Arc<S>,
    handlers: Vec<Result<BoundHandler, Error>>,
    sinks: Vec<(Arc<str>, SinkSpec)>,
    layers: Vec<SharedLayer<BoxHandler>>,
    config: Config,
    start_at: StartAt,
    checkpoints: Option<Arc<dyn CheckpointStore>>,
    dead_letters: Option<Arc<dyn DeadLetterStore>>,
    deduplicate: Option<Arc<dyn ProcessedStore>>,
}

impl<D> RuntimeBuilder<(), D> {
    pub(crate) fn new(source: D) -> Self {
        Self {
            source,
            name: None,
            state: Arc::new(()),
            handlers: Vec::new(),
            sinks: Vec::new(),
            layers: Vec::new(),
            config: Config::default(),
            start_at: StartAt::default(),
            checkpoints: None,
            dead_letters: None,
            deduplicate: None,
        }
    }
}

impl<S, D> RuntimeBuilder<S, D> {
    /// Names the runtime. The name keys its checkpoint, dead letters and metrics: keep it over restarts,
    /// and give each service its own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the state of the handlers that are added after this.
    pub fn state<T>(self, state: T) -> RuntimeBuilder<T, D> {
        RuntimeBuilder {
            state: Arc::new(state),
            source: self.source,
            name: self.name,
            handlers: self.handlers,
            sinks: self.sinks,
            layers: self.layers,
            config: self.config,
            start_at: self.start_at,
            checkpoints: self.checkpoints,
            dead_letters: self.dead_letters,
            deduplicate: self.deduplicate,
        }
    }

    /// Adds handlers: `handlers![a, b]`.
    pub fn handlers(mut self, handlers: impl IntoIterator<Item = HandlerSpec<S>>) -> Self {
        let state = &self.state;
        let bound = handlers
            .into_iter()
            .map(|handler| handler.bind(Arc::clone(state)));
        self.handlers.extend(bound);
        self
    }

    /// Adds one handler, as when it has layers of its own.
    pub fn handler(self, handler: HandlerSpec<S>) -> Self {
        self.handlers([handler])
    }

    /// Adds a sink, which handlers name with `to`: any tower service of
    /// [`Delivery`](crate::Delivery), or a [`SinkSpec`] with settings of its own.
    pub fn sink(mut self, name: impl Into<String>, sink: impl Into<SinkSpec>) -> Self {
        self.sinks.push((name.into().into(), sink.into()));
        self
    }

    /// Wraps every handler in a tower layer, within retry and timeout. The first added is the outermost.
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

    /// Bounds each attempt of a handler that sets no bound itself; 10 s by default. A sink has its own:
    /// see [`SinkSpec::new`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.policy.timeout = timeout;
        self
    }

    /// How often a handler that does not say so itself is retried; 3 times by default.
    pub fn retries(mut self, retries: u32) -> Self {
        self.config.policy.retries = retries;
        self
    }

    /// The longest wait before a handler's first retry, 1 s by default. It doubles with each further one, up to a
    /// minute, and the real wait is drawn between nothing and that (full jitter).
    pub fn backoff(mut self, backoff: Duration) -> Self {
        self.config.policy.backoff = backoff;
        self
    }

    /// Saves a checkpoint at least this often while there are events, every second by default, and a
    /// thirtieth as often while there are none.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.config.checkpoint_interval = interval;
        self
    }

    /// Saves a checkpoint after this many events at the latest; 1,000 by default. After a crash, at most
    /// the events since the last checkpoint come again.
    pub fn checkpoint_events(mut self, events: u64) -> Self {
        self.config.checkpoint_events = events;
        self
    }

    /// How long shutdown waits for what is in flight; 30 s by default.
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.config.drain_deadline = deadline;
        self
    }

    /// The most events in one reply of the server, 2,000 by default. A reply is bounded by 16 MB anyway,
    /// and two are held at a time: the one worked on and the one read ahead.
    pub fn batch_size(mut self, events: u32) -> Self {
        self.config.batch_size = events;
        self
    }

    /// How long a reply to the stream may be overdue before its connection counts as dead, and the stream
    /// goes on over another one; 30 s by default.
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.config.reply_timeout = timeout;
        self
    }

    /// Where to start when there is no checkpoint yet; now by default.
    pub fn start_at(mut self, start_at: StartAt) -> Self {
        self.start_at = start_at;
        self
    }

    /// Keeps checkpoints here instead of in the watched database.
    pub fn checkpoint_store(mut self, store: impl CheckpointStore) -> Self {
        self.checkpoints = Some(Arc::new(store));
        self
    }

    /// Keeps dead letters here instead of in the watched database.
    pub fn dead_letter_store(mut self, store: impl DeadLetterStore) -> Self {
        self.dead_letters = Some(Arc::new(store));
        self
    }

    /// Skips events that `store` knows a handler to have processed, and records those that are done, for every
    /// handler that takes no [`Transaction`](crate::Transaction) and has no store of its own.
    ///
    /// It suppresses most duplicates, not all: delivery stays at least once. An event is recorded after its
    /// handler has succeeded and its messages have arrived, so a crash between the effect and the record repeats
    /// the effect, as do two runtimes that handle one event at the same time. For effects exactly once take a
    /// [`Transaction`](crate::Transaction), or have the receiver deduplicate by
    /// [`Delivery::id`](crate::Delivery::id). What became a dead letter is not recorded, so that it can be
    /// replayed.
    ///
    /// It is an option and not a tower layer for [`layer`](Self::layer), because those run before the delivery:
    /// an event recorded there and interrupted before its messages arrived would be skipped when it comes again,
    /// and the messages lost.
    pub fn deduplicate(mut self, store: impl ProcessedStore) -> Self {
        self.deduplicate = Some(Arc::new(store));
        self
    }

    /// How long it is remembered which events were processed in a [`Transaction`](crate::Transaction); 7 days by
    /// default. Choose it longer than the oplog reaches back: an event that is not in the oplog any more
    /// cannot come again.
    pub fn processed_retention(mut self, retention: Duration) -> Self {
        self.config.processed_retention = retention;
        self
    }

    pub(crate) fn into_parts(
        self,
        checkpoints: impl FnOnce(&D) -> Arc<dyn CheckpointStore>,
        dead_letters: impl FnOnce(&D) -> Arc<dyn DeadLetterStore>,
    ) -> Result<(D, Parts), Error> {
        let name = self.name.filter(|name| !name.is_empty()).ok_or_else(|| {
            Error::configuration("the runtime has no name; give it one with `.name(\"..\")`")
        })?;
        let name: Arc<str> = name.into();
        let mut handlers = self.handlers.into_iter().collect::<Result<Vec<_>, _>>()?;
        for handler in handlers
            .iter_mut()
            .filter(|handler| !handler.needs.transaction)
        {
            let store = handler.deduplicate.take();
            handler.deduplicate = store.or_else(|| self.deduplicate.clone());
        }
        check_positive("timeout", self.config.policy.timeout)?;
        check_positive("checkpoint interval", self.config.checkpoint_interval)?;
        check_positive("reply timeout", self.config.reply_timeout)?;
        check_positive(
            "retention of processed events",
            self.config.processed_retention,
        )?;
        check_names(&handlers, &self.sinks)?;
        for handler in &handlers {
            let timeout = handler.policy.timeout.unwrap_or(self.config.policy.timeout);
            check_positive(&format!("timeout of handler `{}`", handler.name), timeout)?;
        }
        for (sink, spec) in &self.sinks {
            let timeout = spec.policy.timeout.unwrap_or(self.config.policy.timeout);
            check_positive(&format!("timeout of sink `{sink}`"), timeout)?;
        }

        let dead_letters = self
            .dead_letters
            .unwrap_or_else(|| dead_letters(&self.source));
        let sinks = self.sinks.into_iter().map(|(sink, spec)| {
            let stack = sink_stack(&name, &sink, spec, &dead_letters);
            (sink, stack)
        });
        let sinks = sinks.collect();
        let parts = Parts {
            sinks,
            name,
            handlers,
            layers: self.layers,
            config: self.config,
            start_at: self.start_at,
            checkpoints: self
                .checkpoints
                .unwrap_or_else(|| checkpoints(&self.source)),
            dead_letters,
            transactions: None,
        };
        Ok((self.source, parts))
    }
}

impl<S> RuntimeBuilder<S> {
    /// The runtime.
    ///
    /// # Errors
    ///
    /// A configuration error when there is no name or no handler, when two handlers or two sinks share a
    /// name, when a handler names an unknown sink, a bad path or no operation, or when a duration is zero.
    pub fn build(self) -> Result<Runtime, Error> {
        let (database, mut parts) = self.into_parts(
            |database| Arc::new(MongoCheckpoints::new(database)),
            |database| Arc::new(MongoDeadLetters::new(database)),
        )?;
        let processed = MongoProcessed::new(&database).retention(parts.config.processed_retention);
        parts.transactions = Some(Transactions::new(processed, &parts.name));
        Ok(Runtime { database, parts })
    }
}

fn check_positive(what: &str, duration: Duration) -> Result<(), Error> {
    match duration.is_zero() {
        true => Err(Error::configuration(format!("the {what} is zero"))),
        false => Ok(()),
    }
}

fn check_names(handlers: &[BoundHandler], sinks: &[(Arc<str>, SinkSpec)]) -> Result<(), Error> {
    if handlers.is_empty() {
        return Err(Error::configuration(
            "the runtime has no handlers; add some with `.handlers(handlers![..])`",
        ));
    }
    let mut seen = HashSet::new();
    if let Some((name, _)) = sinks.iter().find(|(name, _)| !seen.insert(name)) {
        return Err(Error::configuration(format!(
            "two sinks are named `{name}`; give each its own name"
        )));
    }
    let known = || {
        let names: Vec<_> = sinks.iter().map(|(name, _)| format!("`{name}`")).collect();
        match names.as_slice() {
            [] => "there are none".to_owned(),
            names => format!("there are {}", names.join(", ")),
        }
    };
    let mut seen = HashSet::new();
    for handler in handlers {
        let name = &handler.name;
        if !seen.insert(name) {
            return Err(Error::configuration(format!(
                "two handlers are named `{name}`; set `name = \"..\"` on one of them"
            )));
        }
        let unknown = |to: &&String| !sinks.iter().any(|(sink, _)| **sink == ***to);
        if let Some(to) = handler.sinks.iter().find(unknown) {
            return Err(Error::configuration(format!(
                "handler `{name}` sends to sink `{to}`, which is not there; {}. Add it with `.sink(\"{to}\", ..)`",
                known()
            )));
        }
    }
    Ok(())
}

impl<S, D> fmt::Debug for RuntimeBuilder<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("name", &self.name)
            .field("handlers", &self.handlers.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
