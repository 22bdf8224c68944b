mod check;

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use mongodb::Database;
use tower::{Layer, Service};

use crate::{
    checkpoint::{CheckpointStore, MongoCheckpoints},
    config::Config,
    dead_letter::{DeadLetterStore, MongoDeadLetters, WatchedDeadLetters},
    error::{BoxError, Error},
    handler::{BoundHandler, BoxHandler, ChangeRequest, HandlerSpec, handler_layer},
    health::HealthReporter,
    layer::{SharedLayer, sink_stack},
    lease::{LeaseStore, MongoLeases},
    message::Message,
    processed::{MongoProcessed, ProcessedStore, Transactions},
    runtime::{Parts, Runtime},
    sink::{Route, Routes, SinkSpec},
    snapshot::{MongoSnapshots, Snapshot, SnapshotStore, Snapshots},
    source::{OnInvalidate, OnLostHistory, OnMissingImage, OnOversizeEvent, Projection, StartAt},
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
    /// Those of the sinks that something must lead to.
    services: Vec<Arc<str>>,
    routes: Vec<Route>,
    layers: Vec<SharedLayer<BoxHandler>>,
    config: Config,
    start_at: StartAt,
    checkpoints: Option<Arc<dyn CheckpointStore>>,
    dead_letters: Option<Arc<dyn DeadLetterStore>>,
    leases: Option<Arc<dyn LeaseStore>>,
    snapshots: Option<Arc<dyn SnapshotStore>>,
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
            services: Vec::new(),
            routes: Vec::new(),
            layers: Vec::new(),
            config: Config::default(),
            start_at: StartAt::default(),
            checkpoints: None,
            dead_letters: None,
            leases: None,
            snapshots: None,
            deduplicate: None,
        }
    }
}

impl<S, D> RuntimeBuilder<S, D> {
    /// Names the runtime. The name keys its checkpoint, lease, dead letters and metrics: keep it over restarts,
    /// and give each service its own. Of several that run under one name, one is active, and the others stand
    /// by. It may not end in a slash and a number, as the names of [partitions](Self::partitions) do.
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
            services: self.services,
            routes: self.routes,
            layers: self.layers,
            config: self.config,
            start_at: self.start_at,
            checkpoints: self.checkpoints,
            dead_letters: self.dead_letters,
            leases: self.leases,
            snapshots: self.snapshots,
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

    /// Sends messages to sinks beside those that their handlers name.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds a table of services and routes.
    pub fn routes(mut self, routes: Routes) -> Self {
        let names = routes.services.iter().map(|(name, _)| Arc::clone(name));
        self.services.extend(names);
        self.sinks.extend(routes.services);
        self.routes.extend(routes.routes);
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

    /// How many handlers run at a time, 16 by default, each on a lane of its own. Events of one key are
    /// handled one after the other, in the order of the stream; with 1, all events are. A
    /// [handler of batches](HandlerSpec::batch) has its own events in that order, and one batch at a time.
    pub fn concurrency(mut self, lanes: usize) -> Self {
        self.config.concurrency = lanes;
        self
    }

    /// The most events in flight, 1,024 by default: from when the stream comes to them until they are done. One that
    /// takes long lets so many others by, and as many as a checkpoint is about ([`checkpoint_events`](Self::checkpoint_events)).
    pub fn in_flight_events(mut self, events: usize) -> Self {
        self.config.in_flight_events = events;
        self
    }

    /// The most bytes that the events in flight may have, with those that are done behind one of them, 64 MiB by default. An
    /// event that is larger goes alone.
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.config.in_flight_bytes = bytes;
        self
    }

    /// Saves a checkpoint at least this often while there are events, every second by default, and a
    /// thirtieth as often while there are none.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.config.checkpoint_interval = interval;
        self
    }

    /// Saves a checkpoint after this many events at the latest; 10,000 by default. After a crash, at most
    /// the events since the last checkpoint come again. At full speed each checkpoint is a write with majority write concern
    /// that the server and the stream pay for: of 1,000 events each, they take a tenth of both.
    pub fn checkpoint_events(mut self, events: u64) -> Self {
        self.config.checkpoint_events = events;
        self
    }

    /// How long shutdown waits for what is in flight; 30 s by default.
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.config.drain_deadline = deadline;
        self
    }

    /// The most events in one reply of the server, 3,000 by default. A reply is bounded by 16 MB anyway,
    /// and two are held at a time: the one worked on and the one read ahead. A large number costs a stream that is behind
    /// less; one that keeps up gets what there is, however little.
    pub fn batch_size(mut self, events: u32) -> Self {
        self.config.batch_size = events;
        self
    }

    /// How much of its documents the server sends with each event; all by default.
    ///
    /// To leave out what no handler reads saves bytes on the wire and in memory. It saves time of the server's where
    /// documents are large and handlers take few of their fields, and else costs some: each field that is sent has to be
    /// found.
    pub fn projection(mut self, projection: Projection) -> Self {
        self.config.projection = projection;
        self
    }

    /// How long a reply to the stream, a checkpoint or a dead letter may be overdue before its connection counts as
    /// dead, and another one is tried; 30 s by default.
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.config.reply_timeout = timeout;
        self
    }

    /// How long the lease lasts that makes one replica the active one; 30 s by default. It is renewed every
    /// third of it. After a crash another replica takes over within that time; after a clean shutdown within a
    /// second, or a tenth of the lease if that is less.
    pub fn lease(mut self, time: Duration) -> Self {
        self.config.lease = time;
        self
    }

    /// Splits the keys into so many partitions, 1 by default, so that the replicas share the work. 64 at most.
    ///
    /// Each partition has a lease and a checkpoint of its own, named `fulfillment/3`; each replica takes its fair
    /// share of them, and they are shared out anew when one comes or goes. A replica that has to give one up first
    /// finishes what is in flight in it and saves its checkpoint, so the events of one key stay in order, and none
    /// comes twice. After a crash, the others take over within the [lease time](Self::lease).
    ///
    /// The key of an event is that of its document, `_id` and collection, or the value at the handler's
    /// [`key`](crate::HandlerSpec::key), which must then be within `_id` unless the handler receives inserts and
    /// replaces only: no other event carries it for all readers alike. Events of no document, as a drop, are in the
    /// first partition, and in no order with those of the others.
    ///
    /// Each partition is a change stream of its own, which reads all events and hands on its own ones, and costs
    /// the server about 42 µs for each write. So let there be few: two for each replica that you expect to have at
    /// most. The bounds of [`concurrency`](Self::concurrency), [`in_flight_events`](Self::in_flight_events) and
    /// [`in_flight_bytes`](Self::in_flight_bytes) are those of each partition, and layers are made anew for each.
    /// Each takes a connection while it waits for events: let the client's `maxPoolSize`, 10 by default, be above
    /// the number of partitions by ten.
    ///
    /// To change the number, start the replicas with the new one. They wait until the last replica with the old one
    /// has stopped, and then all partitions begin where the last of the old ones had come to: nothing is lost, and
    /// what the others were ahead of it comes again.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.config.partitions = partitions;
        self
    }

    /// Where to start when there is no checkpoint yet; now by default.
    pub fn start_at(mut self, start_at: StartAt) -> Self {
        self.start_at = start_at;
        self
    }

    /// Whether to begin with the documents that are there already; never by default.
    pub fn snapshot(mut self, snapshot: Snapshot) -> Self {
        self.config.snapshot = snapshot;
        self
    }

    /// Hands over at most so many documents of snapshots in a second; as many as the handlers take by default.
    pub fn snapshot_rate(mut self, documents: NonZeroU32) -> Self {
        self.config.snapshot_rate = documents.get();
        self
    }

    /// How many parts of collections are read at a time for snapshots, 4 by default. Each holds a chunk in memory.
    pub fn snapshot_readers(mut self, readers: usize) -> Self {
        self.config.snapshot_readers = readers;
        self
    }

    /// The most documents that a snapshot reads at a time, 1,000 by default, and 16 MB at most. Once a chunk is done, its
    /// documents do not come again after a crash.
    pub fn snapshot_chunk(mut self, documents: usize) -> Self {
        self.config.snapshot_chunk = documents;
        self
    }

    /// What to do when the oplog no longer holds the place to go on from; fail by default. With
    /// [`OnLostHistory::Snapshot`], [`snapshot`](Self::snapshot) must not be `Never`, a handler must receive
    /// snapshots, and there must be 1 partition.
    pub fn on_lost_history(mut self, policy: OnLostHistory) -> Self {
        self.config.stream.lost_history = policy;
        self
    }

    /// What to do with an event of more than 16 MB; split it by default, where the server can.
    pub fn on_oversize_event(mut self, policy: OnOversizeEvent) -> Self {
        self.config.stream.oversize_event = policy;
        self
    }

    /// What to do with an event that lacks an image which its handler requires; fail by default.
    pub fn on_missing_image(mut self, policy: OnMissingImage) -> Self {
        self.config.stream.missing_image = policy;
        self
    }

    /// What to do when what the stream watches is dropped or renamed; restart by default.
    pub fn on_invalidate(mut self, policy: OnInvalidate) -> Self {
        self.config.stream.invalidate = policy;
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

    /// Keeps the lease here instead of in the watched database.
    pub fn lease_store(mut self, store: impl LeaseStore) -> Self {
        self.leases = Some(Arc::new(store));
        self
    }

    /// Keeps the progress of snapshots here instead of in the watched database.
    pub fn snapshot_store(mut self, store: impl SnapshotStore) -> Self {
        self.snapshots = Some(Arc::new(store));
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
        leases: impl FnOnce(&D) -> Arc<dyn LeaseStore>,
        snapshots: impl FnOnce(&D) -> Arc<dyn SnapshotStore>,
    ) -> Result<(D, Parts), Error> {
        let name = self.name.filter(|name| !name.is_empty()).ok_or_else(|| {
            Error::configuration("the runtime has no name; give it one with `.name(\"..\")`")
        })?;
        check::name(&name)?;
        let name: Arc<str> = name.into();
        let mut handlers = self.handlers.into_iter().collect::<Result<Vec<_>, _>>()?;
        for handler in handlers
            .iter_mut()
            .filter(|handler| !handler.needs.transaction)
        {
            let store = handler.deduplicate.take();
            handler.deduplicate = store.or_else(|| self.deduplicate.clone());
        }
        check::all(&self.config, &handlers, &self.sinks)?;
        let routes = self.routes.into_iter().map(Route::bind);
        let routes = routes.collect::<Result<Vec<_>, _>>()?;
        check::routes(&routes, &handlers, &self.sinks)?;
        for handler in &mut handlers {
            handler.set_routes(&routes, &self.sinks);
        }
        check::services(&self.services, &handlers)?;

        let health = HealthReporter::new(&name);
        let dead_letters = self
            .dead_letters
            .unwrap_or_else(|| dead_letters(&self.source));
        let patience = self.config.reply_timeout;
        let dead_letters = WatchedDeadLetters::new(dead_letters, patience, health.clone());
        let watched: Arc<dyn DeadLetterStore> = Arc::new(dead_letters.clone());
        let sinks = self.sinks.into_iter().map(|(sink, spec)| {
            let stack = sink_stack(&name, &sink, spec, &watched, &health);
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
            leases: self.leases.unwrap_or_else(|| leases(&self.source)),
            snapshots: self.snapshots.unwrap_or_else(|| snapshots(&self.source)),
            transactions: None,
            health,
        };
        Ok((self.source, parts))
    }
}

impl<S> RuntimeBuilder<S> {
    /// The runtime.
    ///
    /// # Errors
    ///
    /// A configuration error when there is no name or no handler, when the name ends in a slash and a number, as those
    /// of partitions do, when two handlers or two sinks share a name, when a handler names an unknown sink, a bad
    /// path or no operation, or takes batches that it [cannot](HandlerSpec::batch), when a duration is zero, when the lease is shorter than a second or longer than a day,
    /// when there are no partitions, more than 64, or more than one and a handler whose [`key`](Self::partitions)
    /// cannot be split, or when the snapshot of [`OnLostHistory::Snapshot`] could not be taken.
    pub fn build(self) -> Result<Runtime, Error> {
        let (database, mut parts) = self.into_parts(
            |database| Arc::new(MongoCheckpoints::new(database)),
            |database| Arc::new(MongoDeadLetters::new(database)),
            |database| Arc::new(MongoLeases::new(database)),
            |database| Arc::new(MongoSnapshots::new(database)),
        )?;
        let processed = MongoProcessed::new(&database).retention(parts.config.processed_retention);
        parts.transactions = Some(Transactions::new(processed, &parts.name));
        let (snapshots, requests) = Snapshots::new();
        Ok(Runtime {
            database,
            health: parts.health.clone(),
            parts,
            snapshots,
            requests,
        })
    }
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
