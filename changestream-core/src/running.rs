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
    checkpoint::{Checkpoint, Checkpointer, Claimed},
    config::Config,
    engine::{Drained, Drive},
    error::{Error, Kind},
    gap::GapRecorder,
    health::{HealthReporter, RuntimeState},
    layer::ImageGuard,
    partition::{self, Slot},
    runtime::{Parts, Runtime, unreadable_checkpoint},
    snapshot::{Incoming, Progress, SnapshotTask, Targets, Windows},
    source::{
        Batch, FullDocumentMode, Lookup, OnLostHistory, OnMissingImage, Plan, Position, SourceTask,
        Wishes, check_reached, of_find,
    },
};

/// How long the last checkpoint may take after the drain deadline, or after a failure.
pub(crate) const LAST_SAVE: Duration = Duration::from_secs(5);

/// A runtime whose stream is open.
pub(crate) struct Running {
    pub(crate) drive: Drive,
    pub(crate) batches: mpsc::Receiver<Batch>,
    pub(crate) stop: watch::Sender<bool>,
    /// The tasks of the source, of the checkpointer and of the replayer; aborted when dropped.
    pub(crate) tasks: JoinSet<Result<(), Error>>,
    /// Why the work cannot go on, though nothing is wrong with the tasks.
    pub(crate) failure: mpsc::Receiver<Error>,
    pub(crate) config: Config,
    pub(crate) health: HealthReporter,
}

/// What was found out on the way to the lease.
pub(crate) struct Known {
    pub(crate) plan: Plan,
    /// As it was before the claim.
    pub(crate) checkpoint: Checkpoint,
}

impl Running {
    pub(crate) async fn start(
        runtime: &Runtime,
        slot: &Slot,
        epoch: i64,
        known: Option<Known>,
    ) -> Result<Self, Error> {
        let Runtime {
            database,
            parts,
            requests,
            ..
        } = runtime;
        let health = &slot.health;
        let client = database.client().clone();
        let config = parts.config;

        let (batches_in, batches) = mpsc::channel(1);
        let (marks_in, marks) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let (await_time, await_times) = watch::channel(Plan::MAX_AWAIT_TIME);
        let (failure_in, failure) = mpsc::channel(1);
        let wishes = Wishes {
            stop: stopped.clone(),
            await_time: await_times,
        };
        let source =
            |plan, position| source_task(runtime, slot, plan, position, batches_in, wishes);
        let opening = async {
            let Some(Known { plan, checkpoint }) = known else {
                // Where it starts is not known before the claim.
                return Ok((source(runtime.plan().await?, Position::Now), None));
            };
            let position = position_after(&checkpoint, &plan, parts);
            let mut source = source(plan, position);
            source.open_ahead().await;
            Ok::<_, Error>((source, Some(checkpoint)))
        };
        let claimed = parts.checkpoints.claim(&slot.name, epoch);
        let claimed = claimed.map_err(unreadable_checkpoint);
        let stores = try_join(parts.prepare_processed(), claimed);
        let (opened, stores) = join(opening, stores).await;
        // Of what keeps both from the server, the plan's error says more.
        let ((mut source, expected), ((), claimed)) = (opened?, stores?);
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
        if !expected.is_some_and(|expected| expected.is_at(&checkpoint)) {
            source.start_from(position_after(&checkpoint, source.plan(), parts));
        }
        crate::crash_point!("start.checkpoint_loaded");
        let guard = ImageGuard {
            modes: source.plan().modes(),
            failure: failure_in,
        };
        let fingerprint = source.plan().fingerprint();
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
            projection: of_find(&parts.reads())
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

/// The task that reads the stream of `plan` from `position` on.
fn source_task(
    runtime: &Runtime,
    slot: &Slot,
    plan: Plan,
    position: Position,
    batches: mpsc::Sender<Batch>,
    wishes: Wishes,
) -> SourceTask {
    let Runtime {
        database, parts, ..
    } = runtime;
    let looks_up = plan.modes().full_document == FullDocumentMode::Lookup;
    let lookup = looks_up.then(|| {
        Lookup::new(
            database.client().clone(),
            database.name(),
            &parts.handlers,
            of_find(&parts.reads()),
            slot.partition,
        )
    });
    let gaps = GapRecorder {
        store: Arc::clone(&parts.checkpoints),
        runtime: Arc::clone(&parts.name),
    };
    let client = database.client().clone();
    let health = slot.health.clone();
    SourceTask::new(plan, client, position, gaps, batches, wishes, health).looking_up(lookup)
}

/// Where to go on after `checkpoint`.
fn position_after(checkpoint: &Checkpoint, plan: &Plan, parts: &Parts) -> Position {
    match checkpoint.position.clone() {
        Some(point) => Position::of_checkpoint(point, &checkpoint.fingerprint, &plan.fingerprint()),
        None => parts.start_at.clone().into(),
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
