//! The runtime: a change stream, its handlers and sinks, from start-up to shutdown.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bson::Document;
use futures::{FutureExt, future::FusedFuture};
use mongodb::Database;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::sleep,
};

use crate::{
    builder::RuntimeBuilder,
    checkpoint::{CheckpointStore, Checkpointer, Claimed},
    config::Config,
    dead_letter::{DeadLetterFilter, DeadLetterStore},
    engine::{Drained, Drive, Engine, Registered},
    error::{Error, Kind, StoreError},
    filter::Selection,
    gap::GapRecorder,
    handler::{BoundHandler, BoxHandler},
    health::{Health, HealthReporter, RuntimeState},
    key::KeyHasher,
    layer::{ImageGuard, SharedLayer, SinkStack, handler_stack},
    lease::{LeaseStore, Replica, Tenure},
    processed::Transactions,
    replay::ReplayOutcome,
    route::Router,
    shutdown::shutdown_signal,
    snapshot::{Incoming, Requests, SnapshotStore, SnapshotTask, Snapshots, Targets, Windows},
    source::{OnMissingImage, Plan, Position, SourceTask, StartAt, check_reached, preflight},
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
    pub(crate) dead_letters: Arc<dyn DeadLetterStore>,
    pub(crate) leases: Arc<dyn LeaseStore>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    /// For handlers that take a transaction; `None` where there is no server.
    pub(crate) transactions: Option<Transactions>,
}

impl Parts {
    fn selections(&self) -> Vec<Selection> {
        let handlers = self.handlers.iter();
        handlers.map(|handler| handler.selection.clone()).collect()
    }

    /// Makes ready what keeps handlers from processing an event again.
    async fn prepare_processed(&self) -> Result<(), Error> {
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
        let handlers = self.handlers.into_iter().map(|handler| {
            let sinks = self.sinks.iter();
            let sinks = sinks
                .filter(|(name, _)| handler.sinks.iter().any(|to| **to == **name))
                .cloned()
                .collect();
            let name = Arc::clone(&handler.name);
            let key = KeyHasher::new(handler.key.clone());
            let needs = handler.needs;
            let stack = handler_stack(
                &self.name,
                handler,
                &self.layers,
                sinks,
                self.config.policy,
                &self.dead_letters,
                self.transactions.as_ref(),
            );
            Registered {
                name,
                stack,
                key,
                needs,
            }
        });
        Engine {
            router,
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

    async fn plan(&self) -> Result<Plan, Error> {
        let database = self.database.name();
        let config = self.parts.config;
        let abilities = preflight(
            self.database.client(),
            database,
            &self.parts.handlers,
            config.stream.missing_image,
        )
        .await?;
        let selections = self.parts.selections();
        Ok(Plan::new(&selections, database, abilities, config))
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
    /// crashes, and at once when it shuts down.
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
        let ended = self.take_turns(shutdown).await;
        self.health.stopped(ended.as_ref().err());
        ended
    }

    /// Stands by and runs in turn.
    async fn take_turns(&self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown.fuse());
        let parts = &self.parts;
        let leases = Arc::clone(&parts.leases);
        let (name, health) = (Arc::clone(&parts.name), self.health.clone());
        let mut replica = Replica::new(leases, name, parts.config.lease, health);
        loop {
            match self.serve(&mut replica, shutdown.as_mut()).await {
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

    /// Waits for the lease, and runs for as long as it has it.
    async fn serve(
        &self,
        replica: &mut Replica,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Error> {
        let tenure = tokio::select! {
            biased;
            () = &mut shutdown => None,
            tenure = self.acquire(replica) => Some(tenure),
        };
        let Some(Ok(mut tenure)) = tenure else {
            replica.withdraw().await;
            return tenure.map_or(Ok(()), |failed| failed.map(drop));
        };
        let epoch = tenure.epoch();
        let work = async {
            let running = tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                running = Running::start(self, epoch) => running?,
            };
            running.run(shutdown).await
        };
        let result = replica.hold(&mut tenure, work).await;
        replica.release(tenure).await;
        result
    }

    /// Waits for the lease. What is wrong with the deployment shows before.
    async fn acquire(&self, replica: &mut Replica) -> Result<Tenure, Error> {
        self.plan().await?;
        let parts = &self.parts;
        let stored = parts.checkpoints.load(&parts.name).await;
        let stored = stored.map_err(unreadable_checkpoint)?;
        // The epochs of a lease store that has lost its own begin above those that the checkpoint has seen.
        let above = stored.map_or(0, |stored| stored.epoch);
        replica.acquire(above).await
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

/// How long the last checkpoint may take after the drain deadline.
pub(crate) const LAST_SAVE: Duration = Duration::from_secs(5);

/// A runtime whose stream is open.
pub(crate) struct Running {
    pub(crate) drive: Drive,
    pub(crate) batches: mpsc::Receiver<crate::source::Batch>,
    pub(crate) stop: watch::Sender<bool>,
    /// The tasks of the source, of the checkpointer and of the replayer; aborted when dropped.
    pub(crate) tasks: JoinSet<Result<(), Error>>,
    /// Why the work cannot go on, though nothing is wrong with the tasks.
    pub(crate) failure: mpsc::Receiver<Error>,
    pub(crate) config: Config,
    pub(crate) health: HealthReporter,
}

impl Running {
    async fn start(runtime: &Runtime, epoch: i64) -> Result<Self, Error> {
        let plan = runtime.plan().await?;
        let Runtime {
            database,
            parts,
            health,
            requests,
            ..
        } = runtime;
        parts.prepare_processed().await?;
        let client = database.client().clone();
        let config = parts.config;
        let fingerprint = plan.fingerprint();

        let claimed = parts.checkpoints.claim(&parts.name, epoch).await;
        let Claimed::Yes(checkpoint) = claimed.map_err(unreadable_checkpoint)? else {
            let message = "the checkpoint was claimed by another replica";
            return Err(Error::new(Kind::LeaseLost, message));
        };
        if let Some(time) = checkpoint.cluster_time() {
            check_reached(&client, time).await?;
        }
        let is_first_start = checkpoint.position.is_none();
        let position = match checkpoint.position {
            Some(point) => Position::of_checkpoint(point, &checkpoint.fingerprint, &fingerprint),
            None => parts.start_at.clone().into(),
        };

        crate::crash_point!("start.checkpoint_loaded");
        let (batches_in, batches) = mpsc::channel(1);
        let (marks_in, marks) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let (await_time, await_times) = watch::channel(Plan::MAX_AWAIT_TIME);
        let (failure_in, failure) = mpsc::channel(1);
        let guard = ImageGuard {
            modes: plan.modes(),
            failure: failure_in,
        };
        let gaps = GapRecorder {
            store: Arc::clone(&parts.checkpoints),
            runtime: Arc::clone(&parts.name),
        };
        let mut source = SourceTask::new(
            plan,
            client.clone(),
            position,
            gaps,
            batches_in,
            stopped.clone(),
            await_times,
            health.clone(),
        );
        let start = source.open().await?;
        crate::crash_point!("start.opened");

        let mut checkpointer = Checkpointer {
            store: Arc::clone(&parts.checkpoints),
            runtime: Arc::clone(&parts.name),
            fingerprint,
            epoch,
            sequence: checkpoint.sequence,
            patience: config.reply_timeout,
            health: health.clone(),
        };
        // A start after a crash finds its way back to where this one began, whatever happens to the first events.
        if let Some(start) = start.resume_point().filter(|_| is_first_start) {
            checkpointer.save(start).await?;
            crate::crash_point!("start.first_checkpoint_saved");
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(checkpointer.run(marks));
        tasks.spawn(source.run());
        let windows = Arc::<Windows>::default();
        let (chunks_in, chunks) = mpsc::channel(1);
        let snapshots = SnapshotTask {
            client,
            database: database.name().to_owned(),
            runtime: Arc::clone(&parts.name),
            epoch,
            config,
            store: Arc::clone(&parts.snapshots),
            targets: Targets::of(&parts.selections(), database.name()),
            is_first_start,
            windows: Arc::clone(&windows),
            chunks: chunks_in,
            await_time,
            requests: Arc::clone(requests),
        };
        tasks.spawn(snapshots.run(stopped));
        health.state(RuntimeState::Running);
        tracing::info!(runtime = %parts.name, handlers = parts.handlers.len(), "watching");
        let (mut engine, replayer) = parts.clone().into_engine_and_replayer(database.name());
        tasks.spawn(replayer.run(stop.subscribe()));
        if config.stream.missing_image == OnMissingImage::Fail {
            engine.guard_images(&guard);
        }
        Ok(Self {
            drive: Drive::new(
                engine,
                Incoming::new(chunks, windows),
                marks_in,
                config,
                &parts.name,
                health.clone(),
            ),
            batches,
            stop,
            tasks,
            failure,
            config,
            health: health.clone(),
        })
    }

    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self {
            drive,
            batches,
            stop,
            mut tasks,
            mut failure,
            config,
            health,
        } = self;
        let mut work = pin!(async {
            let drained = drive.run(batches, stop.subscribe()).await;
            stop.send_replace(true);
            let mut result = Ok(());
            while let Some(task) = tasks.join_next().await {
                result = result.and(joined(task));
            }
            match drained {
                Drained::Yes => result,
                Drained::No => result.and(Err(drain_deadline(config))),
            }
        });
        tokio::select! {
            biased;
            Some(error) = failure.recv() => return Err(error),
            () = shutdown => {}
            result = &mut work => return result,
        }
        tracing::info!("shutting down");
        crate::crash_point!("shutdown.begun");
        health.state(RuntimeState::Stopping);
        stop.send_replace(true);
        tokio::select! {
            biased;
            result = work => {
                crate::crash_point!("shutdown.committed");
                result
            }
            Some(error) = failure.recv() => Err(error),
            // The drive keeps the deadline; this is for a last checkpoint that can't be saved.
            () = sleep(config.drain_deadline.saturating_add(LAST_SAVE)) => Err(drain_deadline(config)),
            () = shutdown_signal() => {
                Err(Error::new(Kind::Aborted, "a second signal aborted the shutdown"))
            }
        }
    }
}

fn drain_deadline(config: Config) -> Error {
    Error::new(
        Kind::DrainDeadline,
        format!(
            "work was still unfinished {:?} after shutdown began; it comes again at the next start",
            config.drain_deadline
        ),
    )
}

fn unreadable_checkpoint(error: StoreError) -> Error {
    let message =
        "the checkpoint cannot be read; nothing was skipped. Mend it, or delete it to start anew";
    Error::new(Kind::Store, message).caused_by(error)
}

fn joined(task: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    task.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_cancelled) => Ok(()),
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
