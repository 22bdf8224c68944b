use std::{
    collections::BTreeMap,
    mem,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::FusedFuture;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Partition, Slot,
    job::{Ended, Job, seat, serve, sit},
    name,
    share::{self, View},
};
use crate::{
    checkpoint::Checkpoint,
    error::{Error, Kind, StoreError},
    health::{Health, Part, RuntimeState},
    lease::{LOOK, Replica},
    running::Running,
    runtime::Runtime,
};

/// How long a partition that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// How soon after taking a seat the leases are looked at again.
const SOON: Duration = Duration::from_millis(100);

/// How often looking at the leases may fail at start-up before it counts as failed.
const START_ATTEMPTS: u32 = 5;

/// Shares the partitions with the other replicas of the runtime until `shutdown` resolves.
pub(crate) async fn share(
    runtime: Arc<Runtime>,
    mut shutdown: Pin<&mut impl FusedFuture<Output = ()>>,
) -> Result<(), Error> {
    let mut replica = runtime.replica(&Slot::whole(&runtime));
    loop {
        let settled = tokio::select! {
            biased;
            () = &mut shutdown => None,
            settled = settle(&runtime, &mut replica) => Some(settled),
        };
        let result = match settled {
            None => {
                replica.withdraw().await;
                Ok(())
            }
            Some(Err(error)) => {
                replica.withdraw().await;
                Err(error)
            }
            Some(Ok(())) => Group::new(&runtime).run(shutdown.as_mut()).await,
        };
        match result {
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

/// Sees to it that the keys are split as this replica has it, and that all partitions know where to begin.
async fn settle(runtime: &Runtime, replica: &mut Replica) -> Result<(), Error> {
    let parts = &runtime.parts;
    let is_settled = |stored: Checkpoint| {
        let partitioning = stored.partitioning.filter(|_| stored.position.is_some());
        partitioning.is_some_and(|found| found.partitions == parts.config.partitions)
    };
    runtime.plan().await?;
    if runtime
        .checkpoint(&parts.name)
        .await?
        .is_some_and(is_settled)
    {
        return Ok(());
    }
    let (mut tenure, known) = runtime.acquire(replica).await?;
    let (whole, epoch) = (Slot::whole(runtime), tenure.epoch());
    // It starts as one that does all the work, and leaves it at that.
    let start = async {
        let started = Running::start(runtime, &whole, epoch, known).await;
        started.map(drop)
    };
    let started = replica.hold(&mut tenure, start).await;
    replica.release(tenure).await;
    started
}

/// One of the replicas that share the partitions.
///
/// Each has a lease of its own, its seat, by which the others know that it lives, and takes as many partitions as
/// is its [share](share::share). Nobody decides for others: who has too many gives some up, and who has too few
/// takes what is free. That only one has a partition at a time is up to the partition's lease.
struct Group {
    runtime: Arc<Runtime>,
    partitions: u32,
    seat: Option<(u32, Stop)>,
    /// The partitions that are ours, those included that are being given up.
    held: BTreeMap<u32, Held>,
    tasks: JoinSet<Ended>,
    is_shutting_down: watch::Sender<bool>,
    next_look: Instant,
    /// The partitions that failed, and until when they are left alone.
    paused: BTreeMap<u32, Instant>,
    /// Of looks in a row, until the first one succeeds.
    failures: Option<u32>,
    /// The newest that was reported.
    last_checkpoint: Option<std::time::Instant>,
}

type Stop = watch::Sender<bool>;

/// A partition that is ours.
struct Held {
    stop: Stop,
    health: Health,
}

impl Held {
    fn is_given_up(&self) -> bool {
        *self.stop.borrow()
    }
}

impl Group {
    fn new(runtime: &Arc<Runtime>) -> Self {
        Self {
            runtime: Arc::clone(runtime),
            partitions: runtime.parts.config.partitions,
            seat: None,
            held: BTreeMap::new(),
            tasks: JoinSet::new(),
            is_shutting_down: watch::Sender::new(false),
            next_look: Instant::now(),
            paused: BTreeMap::new(),
            failures: Some(0),
            last_checkpoint: None,
        }
    }

    async fn run(
        mut self,
        mut shutdown: Pin<&mut impl FusedFuture<Output = ()>>,
    ) -> Result<(), Error> {
        let result = loop {
            let step = tokio::select! {
                biased;
                () = &mut shutdown => {
                    tracing::info!("shutting down");
                    self.is_shutting_down.send_replace(true);
                    self.runtime.health.state(RuntimeState::Stopping);
                    break Ok(());
                }
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                view = look(&self.runtime, self.next_look) => self.looked(view),
            };
            if let Err(error) = step {
                break Err(error);
            }
        };
        result.and(self.leave(shutdown).await)
    }

    /// Gives up everything, once what is in flight is finished.
    async fn leave(
        mut self,
        mut shutdown: Pin<&mut impl FusedFuture<Output = ()>>,
    ) -> Result<(), Error> {
        let stops = self.seat.iter().map(|(_, stop)| stop);
        for stop in stops.chain(self.held.values().map(|held| &held.stop)) {
            stop.send_replace(true);
        }
        let mut result = Ok(());
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown, if !shutdown.is_terminated() => {
                    self.is_shutting_down.send_replace(true);
                }
                ended = self.tasks.join_next() => match ended {
                    Some(ended) => result = result.and(joined(ended).1),
                    None => return result,
                }
            }
        }
    }

    fn looked(&mut self, view: Result<View, StoreError>) -> Result<(), Error> {
        let pause = LOOK.min(self.runtime.parts.config.lease / 10);
        // So that replicas do not all look, and reach for the same, at one time.
        self.next_look = Instant::now() + pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        let error = match view {
            Ok(view) => {
                self.failures = None;
                self.act(&view);
                self.report();
                return Ok(());
            }
            Err(error) => error,
        };
        tracing::warn!(
            error = error.brief(),
            "the leases of the partitions cannot be read"
        );
        if let Some(failures) = &mut self.failures {
            *failures += 1;
            if *failures == START_ATTEMPTS {
                let message = "the leases of the partitions cannot be read";
                return Err(Error::new(Kind::Store, message).caused_by(error));
            }
        }
        Ok(())
    }

    fn act(&mut self, view: &View) {
        let Some(seat) = self.seat.as_ref().map(|(index, _)| *index) else {
            match view.free_seat(self.partitions) {
                Some(index) => self.take_seat(index),
                // As many replicas as there are partitions live without us.
                None => self.give_up(self.held.len()),
            }
            return;
        };
        // It may not be ours yet.
        if !view.seats.contains(&seat) {
            return;
        }
        let share = share::share(self.partitions, &view.seats, seat);
        let given_up = self.held.values().filter(|held| held.is_given_up()).count();
        self.give_up((self.held.len() - given_up).saturating_sub(share));

        let now = Instant::now();
        self.paused.retain(|_, until| *until > now);
        let is_possible =
            |index: &u32| !self.held.contains_key(index) && !self.paused.contains_key(index);
        let mut free: Vec<_> = view.free.iter().copied().filter(is_possible).collect();
        fastrand::shuffle(&mut free);
        for index in free.into_iter().take(share.saturating_sub(self.held.len())) {
            self.take(index);
        }
    }

    fn take_seat(&mut self, index: u32) {
        let (stop, stopped) = watch::channel(false);
        let runtime = Arc::clone(&self.runtime);
        let slot = Slot::part(seat(&runtime.parts.name, index), None);
        let work = sit(runtime, slot, stopped);
        self.tasks.spawn(async move { (Job::Seat, work.await) });
        self.seat = Some((index, stop));
        self.next_look = self.next_look.min(Instant::now() + SOON);
    }

    fn take(&mut self, index: u32) {
        let (stop, stopped) = watch::channel(false);
        let partition = Partition {
            index,
            count: self.partitions,
        };
        let runtime = Arc::clone(&self.runtime);
        let slot = Slot::part(name(&runtime.parts.name, index), Some(partition));
        let health = slot.health.health();
        let work = serve(runtime, slot, stopped, self.is_shutting_down.subscribe());
        self.tasks
            .spawn(async move { (Job::Partition(index), work.await) });
        self.held.insert(index, Held { stop, health });
    }

    /// Gives up so many partitions, for others to take.
    fn give_up(&mut self, count: usize) {
        let ours = self
            .held
            .iter()
            .rev()
            .filter(|(_, held)| !held.is_given_up());
        for (index, held) in ours.take(count) {
            tracing::info!(partition = index, "given up, for another replica to take");
            held.stop.send_replace(true);
        }
    }

    /// Tells how the runtime fares: as the worst of its partitions, as of this look.
    fn report(&mut self) {
        let report = &self.runtime.health;
        let healths = || self.held.values().map(|held| &held.health);
        let has_started = healths().all(|health| health.state() != RuntimeState::Starting);
        match self.held.len() {
            0 => report.state(RuntimeState::StandingBy),
            _ if has_started => report.state(RuntimeState::Running),
            _ => {}
        }
        let reason = healths().find_map(|health| match health.state() {
            RuntimeState::Interrupted { reason, .. } => Some(reason),
            _ => None,
        });
        match reason {
            Some(reason) => report.interrupted(Part::Stream, reason),
            None => report.resumed(Part::Stream),
        }
        match healths().map(Health::lag).max().unwrap_or_default() {
            Duration::ZERO => report.caught_up(),
            lag => report.handled_up_to(SystemTime::now() - lag),
        }
        report.in_flight(healths().map(Health::in_flight).sum());
        let saved = healths().filter_map(Health::last_checkpoint).max();
        if saved > self.last_checkpoint {
            self.last_checkpoint = saved;
            report.checkpointed();
        }
    }

    /// What a job has come to that ended by itself, or gave up its partition.
    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), Error> {
        let (job, result) = joined(ended);
        match job {
            Job::Seat => self.seat = None,
            Job::Partition(index) => mem::drop(self.held.remove(&index)),
        }
        let Err(error) = result else { return Ok(()) };
        let is_another_ones = error.is_lease_lost() || error.is_drain_deadline();
        let passes = error.is_unreachable() || error.is_store();
        if !is_another_ones && !passes {
            return Err(error);
        }
        if let Job::Partition(index) = job {
            self.paused.insert(index, Instant::now() + PAUSE);
        }
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(?job, %error, cause, "not held any more");
        Ok(())
    }
}

/// Waits until it is time, and looks at the leases of all partitions and seats.
async fn look(runtime: &Runtime, time: Instant) -> Result<View, StoreError> {
    sleep_until(time).await;
    let parts = &runtime.parts;
    let count = parts.config.partitions;
    let partitions = (0..count).map(|index| name(&parts.name, index));
    let seats = (0..count).map(|index| seat(&parts.name, index));
    let names: Vec<_> = partitions.chain(seats).collect();
    let loading = timeout(parts.config.lease / 3, parts.leases.load_all(&names));
    let leases = loading
        .await
        .unwrap_or_else(|_elapsed| Err(StoreError::new("the lease store does not answer")))?;
    Ok(View::new(count, &leases))
}

fn joined(ended: Result<Ended, JoinError>) -> Ended {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_cancelled) => unreachable!("nobody aborts a job but who drops them all"),
    })
}
