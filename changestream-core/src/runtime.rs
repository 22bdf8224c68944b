//! The runtime: a change stream, its handlers and sinks, from start-up to shutdown.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use bson::Document;
use futures::{
    FutureExt,
    future::{FusedFuture, try_join},
};
use mongodb::Database;

use crate::{
    builder::RuntimeBuilder,
    checkpoint::{Checkpoint, CheckpointStore},
    config::Config,
    dead_letter::{DeadLetterFilter, DeadLetterStore, WatchedDeadLetters},
    engine::{Engine, Registered},
    error::{Error, Kind, StoreError},
    extract::Reads,
    filter::Selection,
    handler::{BoundHandler, BoxHandler},
    health::{Health, HealthReporter, RuntimeState},
    key::KeyHasher,
    layer::{SharedLayer, SinkStack, TargetSink, handler_stacks},
    lease::{LeaseStore, Replica, Tenure},
    partition::{self, Slot},
    processed::Transactions,
    replay::ReplayOutcome,
    route::Router,
    running::{Known, Running},
    shutdown::shutdown_signal,
    snapshot::{Requests, SnapshotStore, Snapshots},
    source::{Plan, Position, Projection, StartAt, preflight, reads, unreachable},
};

/// Runs handlers for the changes of a MongoDB deployment.
///
/// # Example
///
/// ```no_run
/// use changestream_core::{DocumentKey, HandlerError, HandlerSpec, Runtime, shutdown_signal};
///
/// async fn changed(key: DocumentKey) -> Result<(), HandlerError> {
///     println!("{key:?}");
///     Ok(())
/// }
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = mongodb::Client::with_uri_str("mongodb://localhost:27017").await?;
/// Runtime::builder(client.database("shop"))
///     .name("audit")
///     .handlers([HandlerSpec::new("changed", changed).collections(["orders"])])
///     .build()?
///     .run_until(shutdown_signal())
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Runtime {
    pub(crate) database: Database,
    pub(crate) parts: Parts,
    pub(crate) snapshots: Snapshots,
    pub(crate) requests: Requests,
    pub(crate) health: HealthReporter,
}

/// What a runtime is made of, but for where its events come from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) name: Arc<str>,
    pub(crate) handlers: Vec<BoundHandler>,
    pub(crate) sinks: Vec<(Arc<str>, SinkStack)>,
    pub(crate) layers: Vec<SharedLayer<BoxHandler>>,
    pub(crate) config: Config,
    pub(crate) start_at: StartAt,
    pub(crate) checkpoints: Arc<dyn CheckpointStore>,
    pub(crate) dead_letters: WatchedDeadLetters,
    pub(crate) leases: Arc<dyn LeaseStore>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    /// For handlers that take a transaction; `None` where there is no server.
    pub(crate) transactions: Option<Transactions>,
    pub(crate) health: HealthReporter,
}

impl Parts {
    pub(crate) fn selections(&self) -> Vec<Selection> {
        let handlers = self.handlers.iter();
        handlers.map(|handler| handler.selection.clone()).collect()
    }

    /// Which fields of their documents the events are to come with.
    pub(crate) fn reads(&self) -> Reads {
        match self.config.projection {
            Projection::Whole => Reads::WHOLE,
            Projection::Fields => reads(&self.handlers),
        }
    }

    /// Makes ready what keeps handlers from processing an event again.
    pub(crate) async fn prepare_processed(&self) -> Result<(), Error> {
        let unprepared = |error| {
            let message = "the store of processed events cannot be made ready";
            Error::new(Kind::Store, message).caused_by(error)
        };
        let mut handlers = self.handlers.iter();
        if let Some(transactions) = &self.transactions
            && handlers.any(|handler| handler.needs.transaction)
        {
            transactions.prepare().await.map_err(unprepared)?;
        }
        for handler in &self.handlers {
            if let Some(store) = &handler.deduplicate {
                store.prepare().await.map_err(unprepared)?;
            }
        }
        Ok(())
    }

    /// Puts each handler into its stack, behind the router.
    pub(crate) fn into_engine(self, default_database: &str) -> Engine {
        let router = Router::new(&self.selections(), default_database);
        let dead_letters: Arc<dyn DeadLetterStore> = Arc::new(self.dead_letters);
        let handlers = self.handlers.into_iter().map(|handler| {
            let sinks = self.sinks.iter();
            let sinks = sinks.filter(|(name, _)| handler.may_send_to(name));
            let sinks = sinks.map(|(name, stack)| TargetSink {
                name: Arc::clone(name),
                stack: stack.clone(),
                routes: (!handler.always_sends_to(name))
                    .then(|| handler.routes_to(name).cloned().collect()),
            });
            let sinks = sinks.collect();
            let name = Arc::clone(&handler.name);
            let key = KeyHasher::new(handler.key.clone());
            let (needs, batch) = (handler.needs, handler.batch);
            let stacks = handler_stacks(
                &self.name,
                handler,
                &self.layers,
                sinks,
                self.config.policy,
                &dead_letters,
                self.transactions.as_ref(),
            );
            Registered {
                name,
                stacks,
                key,
                needs,
                batch,
            }
        });
        Engine {
            router,
            partition: None,
            handlers: handlers.collect(),
        }
    }
}

impl Runtime {
    /// A builder of a runtime that watches `database`, and keeps its checkpoints and dead letters there.
    ///
    /// An open change stream holds a connection while it waits. A client that is busy besides should
    /// allow for it in `maxPoolSize`.
    pub fn builder(database: Database) -> RuntimeBuilder<()> {
        RuntimeBuilder::new(database)
    }

    /// The pipeline of the one stream behind all handlers, as it is sent but for the position: to print, to
    /// test, to try in the shell. It lets through at least what any handler's own
    /// [`pipeline`](crate::HandlerSpec::pipeline) does.
    ///
    /// The server is asked, as at start-up, which documents it can add to the events.
    ///
    /// # Errors
    ///
    /// When no server answers, or it cannot do what the handlers ask.
    pub async fn pipeline(&self) -> Result<Vec<Document>, Error> {
        let plan = self.plan().await?;
        Ok(plan.pipeline(&Position::Now))
    }

    /// Tells how the runtime fares, also while [`run_until`](Self::run_until) has it: for the probes of an
    /// orchestrator, and to wait until it watches.
    pub fn health(&self) -> Health {
        self.health.health()
    }

    /// Takes snapshots while the runtime runs, for whoever asks: to be had before it does.
    pub fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
    }

    pub(crate) async fn plan(&self) -> Result<Plan, Error> {
        let database = self.database.name();
        let config = self.parts.config;
        let modes = preflight(
            self.database.client(),
            database,
            &self.parts.handlers,
            config.stream.missing_image,
        )
        .await?;
        let selections = self.parts.selections();
        let reads = self.parts.reads();
        Ok(Plan::new(&selections, &reads, database, modes, config))
    }

    /// Replays dead letters of this runtime, those that `filter` lets through, oldest first: into the handler
    /// that failed, or, where a sink failed, the stored message to that sink alone. Gives the outcome of
    /// each, by the letter's id.
    ///
    /// A letter is removed after its replay succeeded; one that fails again is kept with the new error, under
    /// the same id. This is for a runtime that does not run; of one that does, ask with
    /// [`Replay::request`](crate::Replay::request).
    ///
    /// # Errors
    ///
    /// When the dead letters cannot be read or marked. What had begun by then is done again by the next
    /// runtime of this name.
    pub async fn replay(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<(String, ReplayOutcome)>, StoreError> {
        let parts = self.parts.clone();
        let (_, replayer) = parts.into_engine_and_replayer(self.database.name());
        replayer.replay_all(filter).await
    }

    /// Runs until `shutdown` resolves. Of several replicas, which have the same name, one is active at a time, and
    /// the others stand by: each takes over within the [lease time](RuntimeBuilder::lease) when the active one
    /// crashes, and at once when it shuts down. With [`partitions`](RuntimeBuilder::partitions), they share the work.
    ///
    /// When asked to shut down, it stops reading, finishes what is in flight within the drain deadline, saves the
    /// last checkpoint, frees the lease and returns. A signal (Ctrl-C, SIGTERM) during the drain
    /// aborts it.
    ///
    /// Interruptions of the deployment (restarts, elections, lost connections) do not end it: it waits
    /// and goes on where it was. When it cannot renew its lease in time, or was stopped for longer than that, it
    /// drops what it is at, commits nothing any more, and stands by again: whoever is active next does the rest.
    ///
    /// # Errors
    ///
    /// At start-up, when no server answers, the server is unsupported, the lease cannot be acquired, the
    /// checkpoint cannot be read, or the stream cannot be opened there. Later, when the stream fails for good,
    /// as when its history is lost, an event is too large or lacks a required image (see the builder's policies).
    /// At shutdown, when the deadline passed, a signal aborted the drain, or the lease was lost over it. In no
    /// case is an event skipped: whatever was unfinished comes again at
    /// the next start.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let health = self.health.clone();
        let ended = match self.parts.config.partitions {
            1 => self.take_turns(shutdown).await,
            _ => partition::share(Arc::new(self), pin!(shutdown.fuse())).await,
        };
        health.stopped(ended.as_ref().err());
        ended
    }

    /// Stands by and runs in turn.
    async fn take_turns(&self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown.fuse());
        let whole = Slot::whole(self);
        let mut replica = self.replica(&whole);
        loop {
            match self.serve(&mut replica, &whole, shutdown.as_mut()).await {
                Err(error) if !shutdown.is_terminated() && replica.outlives(&error) => {}
                result => return result,
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                () = replica.pause() => {}
            }
        }
    }

    pub(crate) fn replica(&self, slot: &Slot) -> Replica {
        let leases = Arc::clone(&self.parts.leases);
        let (name, health) = (Arc::clone(&slot.name), slot.health.clone());
        Replica::new(leases, name, self.parts.config.lease, health)
    }

    /// Waits for the lease, and runs for as long as it has it.
    async fn serve(
        &self,
        replica: &mut Replica,
        slot: &Slot,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Error> {
        let tenure = tokio::select! {
            biased;
            () = &mut shutdown => None,
            tenure = self.acquire(replica) => Some(tenure),
        };
        let Some(Ok((mut tenure, known))) = tenure else {
            replica.withdraw().await;
            return tenure.map_or(Ok(()), |failed| failed.map(drop));
        };
        let work = self.work(slot, tenure.epoch(), known, shutdown, shutdown_signal());
        let result = replica.hold(&mut tenure, work).await;
        replica.release(tenure).await;
        result
    }

    /// Runs until it is told to shut down, and then until it is done or told to `abort`.
    pub(crate) async fn work(
        &self,
        slot: &Slot,
        epoch: i64,
        known: Option<Known>,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
        abort: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let _writing = self.parts.dead_letters.writing();
        let running = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            running = Running::start(self, slot, epoch, known) => running?,
        };
        slot.health.state(RuntimeState::Running);
        tracing::info!(runtime = %slot.name, handlers = self.parts.handlers.len(), "watching");
        running.run(shutdown, abort).await
    }

    /// Waits for the lease. What is wrong with the deployment shows before. What is found out is handed on where there was no
    /// wait; the claim tells whether the checkpoint is still there.
    pub(crate) async fn acquire(
        &self,
        replica: &mut Replica,
    ) -> Result<(Tenure, Option<Known>), Error> {
        let checkpoint = self.checkpoint(&self.parts.name);
        let (plan, checkpoint) = try_join(self.plan(), checkpoint).await?;
        let tenure = replica.acquire(epoch_of(checkpoint.as_ref())).await?;
        let checkpoint = checkpoint.unwrap_or_default();
        // One that is about partitions is no place to start at.
        let is_of_use = !replica.has_stood_by() && checkpoint.partitioning.is_none();
        let known = is_of_use.then_some(Known { plan, checkpoint });
        Ok((tenure, known))
    }

    pub(crate) async fn checkpoint(&self, name: &str) -> Result<Option<Checkpoint>, Error> {
        let stored = self.parts.checkpoints.load(name).await;
        stored.map_err(unreadable_checkpoint)
    }

    /// Runs until the process is asked to stop: [`run_until`](Self::run_until) a [`shutdown_signal`].
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    pub async fn run(self) -> Result<(), Error> {
        self.run_until(shutdown_signal()).await
    }
}

/// The epochs of a lease store that has lost its own begin above this one, which the checkpoint has seen.
pub(crate) fn epoch_of(checkpoint: Option<&Checkpoint>) -> i64 {
    checkpoint.map_or(0, |checkpoint| checkpoint.epoch)
}

pub(crate) fn unreadable_checkpoint(error: StoreError) -> Error {
    if is_of_no_server(&error) {
        return unreachable(error);
    }
    let message =
        "the checkpoint cannot be read; nothing was skipped. Mend it, or delete it to start anew";
    Error::new(Kind::Store, message).caused_by(error)
}

/// Whether no server was reached, or let us in.
fn is_of_no_server(error: &(dyn std::error::Error + 'static)) -> bool {
    use mongodb::error::ErrorKind;
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| {
        let error = error.downcast_ref::<mongodb::error::Error>();
        error.is_some_and(|error| {
            matches!(
                *error.kind,
                ErrorKind::Authentication { .. } | ErrorKind::ServerSelection { .. }
            )
        })
    })
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handlers = self.parts.handlers.iter();
        f.debug_struct("Runtime")
            .field("name", &self.parts.name)
            .field("database", &self.database.name())
            .field(
                "handlers",
                &handlers.map(|handler| &handler.name).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}
