//! The runtime: a change stream, its handlers and sinks, from start-up to shutdown.

use std::{fmt, future::Future, pin::pin, sync::Arc};

use bson::Document;
use mongodb::Database;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::sleep,
};

use crate::{
    builder::RuntimeBuilder,
    checkpoint::{CheckpointStore, Checkpointer},
    config::Config,
    dead_letter::DeadLetterStore,
    engine::{Drive, Engine},
    error::{Error, Kind},
    filter::Selection,
    handler::{BoundHandler, BoxHandler},
    layer::{SharedLayer, SinkStack, handler_stack},
    route::Router,
    shutdown::shutdown_signal,
    source::{Plan, Position, SourceTask, StartAt, preflight},
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
}

/// What a runtime is made of, but for where its events come from.
pub(crate) struct Parts {
    pub(crate) name: Arc<str>,
    pub(crate) handlers: Vec<BoundHandler>,
    pub(crate) sinks: Vec<(Arc<str>, SinkStack)>,
    pub(crate) layers: Vec<SharedLayer<BoxHandler>>,
    pub(crate) config: Config,
    pub(crate) start_at: StartAt,
    pub(crate) checkpoints: Arc<dyn CheckpointStore>,
    pub(crate) dead_letters: Arc<dyn DeadLetterStore>,
}

impl Parts {
    fn selections(&self) -> Vec<Selection> {
        let handlers = self.handlers.iter();
        handlers.map(|handler| handler.selection.clone()).collect()
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
            let stack = handler_stack(
                &self.name,
                handler,
                &self.layers,
                sinks,
                self.config.policy,
                &self.dead_letters,
            );
            (name, stack)
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

    async fn plan(&self) -> Result<Plan, Error> {
        let database = self.database.name();
        let modes = preflight(self.database.client(), database, &self.parts.handlers).await?;
        let selections = self.parts.selections();
        Ok(Plan::new(&selections, database, modes, self.parts.config))
    }

    /// Runs until `shutdown` resolves; then stops reading, finishes what is in flight within the drain
    /// deadline, saves the last checkpoint and returns. A signal (Ctrl-C, SIGTERM) during the drain
    /// aborts it.
    ///
    /// Interruptions of the deployment (restarts, elections, lost connections) do not end it: it waits
    /// and goes on where it was.
    ///
    /// # Errors
    ///
    /// At start-up, when no server answers, the server is unsupported, the checkpoint cannot be read, or
    /// the stream cannot be opened there. Later, when the stream fails for good, as when its history is
    /// lost, or another runtime of the same name is found. At shutdown, when the deadline passed or a
    /// signal aborted the drain. In no case is an event skipped: whatever was unfinished comes again at
    /// the next start.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown);
        let started = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            started = Running::start(self) => started?,
        };
        started.run(shutdown).await
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

/// A runtime whose stream is open.
struct Running {
    drive: Drive,
    batches: mpsc::Receiver<crate::source::Batch>,
    stop: watch::Sender<bool>,
    /// The tasks of the source and of the checkpointer; aborted when dropped.
    tasks: JoinSet<Result<(), Error>>,
    config: Config,
}

impl Running {
    async fn start(runtime: Runtime) -> Result<Self, Error> {
        let plan = runtime.plan().await?;
        let Runtime { database, parts } = runtime;
        let client = database.client().clone();
        let config = parts.config;
        let fingerprint = plan.fingerprint();

        let checkpoint = parts.checkpoints.load(&parts.name).await.map_err(|error| {
            let message = "the checkpoint cannot be read; nothing was skipped. Mend it, or delete it to start anew";
            Error::new(Kind::Store, message).caused_by(error)
        })?;
        let is_first_start = checkpoint.is_none();
        let stored = checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.sequence);
        let sequence = stored + Checkpointer::HEADROOM;
        let position = match checkpoint {
            Some(checkpoint) => Position::of_checkpoint(checkpoint, &fingerprint),
            None => parts.start_at.clone().into(),
        };

        crate::crash_point!("start.checkpoint_loaded");
        let (batches_in, batches) = mpsc::channel(1);
        let (marks_in, marks) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let mut source = SourceTask::new(plan, client, position, batches_in, stopped);
        let start = source.open().await?;
        crate::crash_point!("start.opened");

        let mut checkpointer = Checkpointer {
            store: Arc::clone(&parts.checkpoints),
            runtime: Arc::clone(&parts.name),
            fingerprint,
            sequence,
        };
        if let Some(start) = start.filter(|_| is_first_start) {
            checkpointer.save_first(&start).await?;
            crate::crash_point!("start.first_checkpoint_saved");
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(checkpointer.run(marks));
        tasks.spawn(source.run());
        tracing::info!(runtime = %parts.name, handlers = parts.handlers.len(), "watching");
        let name = Arc::clone(&parts.name);
        let engine = parts.into_engine(database.name());
        Ok(Self {
            drive: Drive::new(engine, marks_in, config, &name),
            batches,
            stop,
            tasks,
            config,
        })
    }

    async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self {
            drive,
            batches,
            stop,
            mut tasks,
            config,
        } = self;
        let mut work = pin!(async {
            drive.run(batches, stop.subscribe()).await;
            stop.send_replace(true);
            let mut result = Ok(());
            while let Some(task) = tasks.join_next().await {
                result = result.and(joined(task));
            }
            result
        });
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = shutdown => {}
        }
        tracing::info!("shutting down");
        crate::crash_point!("shutdown.begun");
        stop.send_replace(true);
        tokio::select! {
            biased;
            result = work => {
                crate::crash_point!("shutdown.committed");
                result
            }
            () = sleep(config.drain_deadline) => Err(Error::new(
                Kind::DrainDeadline,
                format!(
                    "work was still unfinished {:?} after shutdown began; it comes again at the next start",
                    config.drain_deadline
                ),
            )),
            () = shutdown_signal() => {
                Err(Error::new(Kind::Aborted, "a second signal aborted the shutdown"))
            }
        }
    }
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
