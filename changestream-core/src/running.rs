//! A runtime whose stream is open, from there to shutdown.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bson::RawDocumentBuf;
use futures::{
    TryFutureExt,
    future::{join, try_join},
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    checkpoint::{Checkpointer, Claimed},
    config::Config,
    engine::{Drained, Drive},
    error::{Error, Kind},
    gap::GapRecorder,
    health::{HealthReporter, RuntimeState},
    layer::ImageGuard,
    partition::{self, Slot},
    runtime::{Runtime, unreadable_checkpoint},
    snapshot::{Incoming, Progress, SnapshotTask, Targets, Windows},
    source::{
        FullDocumentMode, Lookup, OnLostHistory, OnMissingImage, Plan, Position, SourceTask,
        Wishes, check_reached, of_find,
    },
};

/// How long the last checkpoint may take after the drain deadline, or after a failure.
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
    pub(crate) async fn start(runtime: &Runtime, slot: &Slot, epoch: i64) -> Result<Self, Error> {
        let Runtime {
            database,
            parts,
            requests,
            ..
        } = runtime;
        let health = &slot.health;
        let client = database.client().clone();
        let config = parts.config;

        let claimed = parts.checkpoints.claim(&slot.name, epoch);
        let claimed = claimed.map_err(unreadable_checkpoint);
        let stores = try_join(parts.prepare_processed(), claimed);
        let (plan, stores) = join(runtime.plan(), stores).await;
        // Of what keeps both from the server, the plan's error says more.
        let (plan, ((), claimed)) = (plan?, stores?);
        let fingerprint = plan.fingerprint();
        let Claimed::Yes(checkpoint) = claimed else {
            let message = "the checkpoint was claimed by another replica";
            return Err(Error::new(Kind::LeaseLost, message));
        };
        let checkpoint = match slot.partition {
            Some(partition) => partition::begin(parts, partition, checkpoint).await?,
            None => partition::settle(parts, checkpoint).await?,
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
        let projection = of_find(&parts.reads());
        let looks_up = plan.modes().full_document == FullDocumentMode::Lookup;
        let lookup = looks_up.then(|| {
            Lookup::new(
                client.clone(),
                database.name(),
                &parts.handlers,
                projection.clone(),
                slot.partition,
            )
        });
        let source = SourceTask::new(
            plan,
            client.clone(),
            position,
            gaps,
            batches_in,
            Wishes {
                stop: stopped.clone(),
                await_time: await_times,
            },
            health.clone(),
        );
        let mut source = source.looking_up(lookup);
        let start = source.open().await?;
        crate::crash_point!("start.opened");

        let progress = Progress {
            store: Arc::clone(&parts.snapshots),
            runtime: Arc::clone(&parts.name),
            epoch,
        };
        // The checkpoint moves after this, so that a start after a crash finds the history lost again, or this done.
        if start.is_after_gap && config.stream.lost_history == OnLostHistory::Snapshot {
            progress.start_over().await?;
        }
        let mut checkpointer = Checkpointer {
            store: Arc::clone(&parts.checkpoints),
            runtime: Arc::clone(&slot.name),
            fingerprint,
            epoch,
            sequence: checkpoint.sequence,
            partitioning: checkpoint.partitioning,
            patience: config.reply_timeout,
            health: health.clone(),
        };
        // A start after a crash finds its way back to where this one began, whatever happens to the first events.
        let is_new = is_first_start || start.is_after_gap;
        if let Some(place) = start.position.resume_point().filter(|_| is_new) {
            checkpointer.save(place).await?;
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
            config,
            progress,
            targets: Targets::of(&parts.selections(), database.name()),
            projection: projection
                .and_then(|projection| RawDocumentBuf::try_from(&projection).ok()),
            is_first_start,
            windows: Arc::clone(&windows),
            chunks: chunks_in,
            await_time,
            requests: Arc::clone(requests),
        };
        match slot.partition {
            None => tasks.spawn(snapshots.run(stopped)),
            Some(_) => tasks.spawn(snapshots.refuse(stopped)),
        };
        let (mut engine, replayer) = parts.clone().into_engine_and_replayer(database.name());
        engine.partition = slot.partition;
        // One replica replays, where several share the work.
        if slot.partition.is_none_or(|partition| partition.index == 0) {
            tasks.spawn(replayer.run(stop.subscribe()));
        }
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

    pub(crate) async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        abort: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Self {
            drive,
            batches,
            stop,
            mut tasks,
            mut failure,
            config,
            health,
        } = self;
        let (give_up, given_up) = watch::channel(false);
        // Among those who bring events and who take them: the caller's own task may sleep far from both.
        let _leash = drive.leash();
        let mut driving = JoinSet::new();
        driving.spawn(drive.run(batches, stop.subscribe(), given_up));
        let mut work = pin!(async {
            let drained = driving.join_next().await.and_then(ended);
            stop.send_replace(true);
            let mut result = Ok(());
            while let Some(task) = tasks.join_next().await {
                result = result.and(ended(task).unwrap_or(Ok(())));
            }
            match drained {
                Some(Drained::Yes) => result,
                _ => result.and(Err(drain_deadline(config))),
            }
        });
        tokio::select! {
            biased;
            Some(error) = failure.recv() => return Err(save_done(&give_up, work, error).await),
            () = shutdown => {}
            result = &mut work => return result,
        }
        tracing::info!("shutting down");
        crate::crash_point!("shutdown.begun");
        health.state(RuntimeState::Stopping);
        stop.send_replace(true);
        tokio::select! {
            biased;
            result = &mut work => {
                crate::crash_point!("shutdown.committed");
                result
            }
            Some(error) = failure.recv() => Err(save_done(&give_up, work, error).await),
            // The drive keeps the deadline; this is for a last checkpoint that can't be saved.
            () = sleep(config.drain_deadline.saturating_add(LAST_SAVE)) => Err(drain_deadline(config)),
            () = abort => {
                Err(Error::new(Kind::Aborted, "a second signal aborted the shutdown"))
            }
        }
    }
}

/// Gives up what is in flight, as a crash would, but saves what is done, if that can be had in time.
async fn save_done(
    give_up: &watch::Sender<bool>,
    work: Pin<&mut impl Future<Output = Result<(), Error>>>,
    because: Error,
) -> Error {
    give_up.send_replace(true);
    match timeout(LAST_SAVE, work).await {
        Ok(_) => {}
        Err(_elapsed) => {
            tracing::warn!("the last checkpoint cannot be saved: what is done comes again")
        }
    }
    because
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

/// What a task ended with, unless it was aborted.
fn ended<T>(task: Result<T, JoinError>) -> Option<T> {
    task.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_aborted) => {}
    })
    .ok()
}
