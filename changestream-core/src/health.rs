//! How a runtime fares: for readiness and liveness probes, and for whoever asks.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use bson::DateTime;
use tokio::sync::watch;

/// Tells how a runtime fares. Cheap to clone and to ask; taken with
/// [`Runtime::health`](crate::Runtime::health) before the runtime runs.
///
/// # Example
///
/// ```no_run
/// use changestream_core::{Error, Runtime, shutdown_signal};
///
/// # async fn serve_probes(health: changestream_core::Health) {}
/// # async fn run(runtime: Runtime) -> Result<(), Error> {
/// let health = runtime.health();
/// // `/livez` answers by `health.is_live()`, `/readyz` by `health.is_ready()`.
/// let probes = tokio::spawn(serve_probes(health.clone()));
/// let announce = async {
///     if health.ready().await {
///         println!("watching");
///     }
/// };
/// let (ran, ()) = tokio::join!(runtime.run_until(shutdown_signal()), announce);
/// probes.abort();
/// ran
/// # }
/// ```
#[derive(Clone)]
pub struct Health {
    status: watch::Receiver<Status>,
    progress: Arc<Progress>,
}

/// What a runtime is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeState {
    /// Its stream has not been opened yet.
    Starting,
    /// Another replica of its name is active; it waits to take over.
    StandingBy,
    /// Its stream is open, its checkpoints and dead letters are written, and no sink is down.
    Running,
    /// The stream is broken, the lease, a checkpoint or a dead letter cannot be written, or a sink is down. It tries again and
    /// again and needs no restart; nothing is skipped meanwhile.
    #[non_exhaustive]
    Interrupted {
        /// Since when.
        since: Instant,
        /// The last error, without content of the database.
        reason: String,
    },
    /// It reads no more and finishes what is in flight.
    Stopping,
    /// It has returned, with or without an error, or was dropped.
    Stopped,
}

impl Health {
    /// What the runtime is doing.
    pub fn state(&self) -> RuntimeState {
        self.status.borrow().state()
    }

    /// Whether the runtime has work to do or will have again: all but [`Stopped`](RuntimeState::Stopped).
    /// For a liveness probe: a restart helps only when it is not.
    pub fn is_live(&self) -> bool {
        self.state() != RuntimeState::Stopped
    }

    /// Whether the stream is open, checkpoints and dead letters are written, and no sink is down:
    /// [`Running`](RuntimeState::Running). For a readiness probe, and to alert on when it lasts.
    pub fn is_ready(&self) -> bool {
        self.status.borrow().is_ready()
    }

    /// Resolves when the runtime is [ready](Self::is_ready), at once if it is; `false` when it stopped
    /// instead.
    pub async fn ready(&self) -> bool {
        let mut status = self.status.clone();
        let decided = status.wait_for(|status| status.is_ready() || status.is_stopped());
        decided.await.is_ok_and(|status| status.is_ready())
    }

    /// Waits until the [state](Self::state) or the [last error](Self::last_error) has changed since this
    /// handle was taken, cloned or last waited; the new state, or `None` after
    /// [`Stopped`](RuntimeState::Stopped).
    pub async fn changed(&mut self) -> Option<RuntimeState> {
        self.status.changed().await.ok()?;
        Some(self.status.borrow_and_update().state())
    }

    /// How long ago the change was written up to which everything is handled; zero once the stream has been
    /// read to its end.
    ///
    /// Compares the server's clock with this host's, and is never below zero where they disagree.
    pub fn lag(&self) -> Duration {
        let now = DateTime::now().timestamp_millis();
        lag(self.progress.handled_up_to.load(Relaxed), now)
    }

    /// How many events are being worked on.
    pub fn in_flight(&self) -> usize {
        self.progress.in_flight.load(Relaxed)
    }

    /// When a checkpoint was last saved; `None` before the first.
    pub fn last_checkpoint(&self) -> Option<Instant> {
        self.status.borrow().last_checkpoint
    }

    /// The last error of the stream or the checkpoints, without content of the database. It stays after
    /// the recovery, and is what ended the runtime where an error did.
    pub fn last_error(&self) -> Option<String> {
        self.status.borrow().last_error.clone()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("state", &self.state())
            .field("lag", &self.lag())
            .field("in_flight", &self.in_flight())
            .field("last_checkpoint", &self.last_checkpoint())
            .field("last_error", &self.last_error())
            .finish()
    }
}

/// What changes seldom, and is waited for.
#[derive(Debug)]
struct Status {
    /// But for interruptions.
    state: RuntimeState,
    interruptions: [Option<RuntimeState>; Part::COUNT],
    last_error: Option<String>,
    last_checkpoint: Option<Instant>,
}

impl Status {
    fn state(&self) -> RuntimeState {
        let interruption = self.interruptions.iter().flatten().next();
        match (&self.state, interruption) {
            (RuntimeState::Stopping | RuntimeState::Stopped, _) | (_, None) => self.state.clone(),
            (_, Some(interruption)) => interruption.clone(),
        }
    }

    fn is_ready(&self) -> bool {
        self.state() == RuntimeState::Running
    }

    fn is_stopped(&self) -> bool {
        self.state == RuntimeState::Stopped
    }
}

/// What changes with every event.
#[derive(Debug)]
struct Progress {
    /// Milliseconds since the epoch.
    handled_up_to: AtomicI64,
    in_flight: AtomicUsize,
}

/// The time up to which everything is handled when there is nothing to handle.
const CAUGHT_UP: i64 = i64::MAX;

fn lag(handled_up_to: i64, now: i64) -> Duration {
    let lag = now.saturating_sub(handled_up_to);
    Duration::from_millis(u64::try_from(lag).unwrap_or_default())
}

/// A part of the runtime that can be interrupted by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Lease,
    Stream,
    Checkpoints,
    DeadLetters,
    Sinks,
}

impl Part {
    const COUNT: usize = 5;
}

/// Where the parts of a runtime report to. Clones report to the same; when the last is gone, the runtime
/// has stopped.
#[derive(Clone, Debug)]
pub(crate) struct HealthReporter(Arc<Report>);

#[derive(Debug)]
struct Report {
    runtime: Arc<str>,
    /// The sinks that are down.
    down: Mutex<BTreeSet<Arc<str>>>,
    status: watch::Sender<Status>,
    progress: Arc<Progress>,
}

impl HealthReporter {
    pub(crate) fn new(runtime: &Arc<str>) -> Self {
        let status = Status {
            state: RuntimeState::Starting,
            interruptions: Default::default(),
            last_error: None,
            last_checkpoint: None,
        };
        Self(Arc::new(Report {
            runtime: Arc::clone(runtime),
            down: Mutex::default(),
            status: watch::Sender::new(status),
            progress: Arc::new(Progress {
                handled_up_to: CAUGHT_UP.into(),
                in_flight: 0.into(),
            }),
        }))
    }

    pub(crate) fn health(&self) -> Health {
        Health {
            status: self.0.status.subscribe(),
            progress: Arc::clone(&self.0.progress),
        }
    }

    /// The runtime's state is now this one, unless it has stopped before.
    pub(crate) fn state(&self, state: RuntimeState) {
        self.0.modify(|status| status.state = state);
    }

    /// The runtime has stopped, with this error if any.
    pub(crate) fn stopped(&self, error: Option<&crate::Error>) {
        self.0.modify(|status| {
            status.last_error = error
                .map(ToString::to_string)
                .or_else(|| status.last_error.take());
            status.state = RuntimeState::Stopped;
        });
    }

    /// `part` has failed, perhaps again, and is tried again.
    pub(crate) fn interrupted(&self, part: Part, reason: impl Into<String>) {
        let reason = reason.into();
        self.0.modify(|status| {
            let interruption = &mut status.interruptions[part as usize];
            let since = match interruption {
                Some(RuntimeState::Interrupted { since, .. }) => *since,
                _ => {
                    self.0.count_interruption(part);
                    Instant::now()
                }
            };
            status.last_error = Some(reason.clone());
            *interruption = Some(RuntimeState::Interrupted { since, reason });
        });
    }

    /// `part` works.
    pub(crate) fn resumed(&self, part: Part) {
        let interrupted = self.0.status.borrow().interruptions[part as usize].is_some();
        if interrupted {
            self.0
                .modify(|status| status.interruptions[part as usize] = None);
        }
    }

    /// The sink of this name is down.
    pub(crate) fn sink_is_down(&self, sink: &Arc<str>) {
        let mut down = self.0.down();
        down.insert(Arc::clone(sink));
        self.interrupted(Part::Sinks, down_reason(&down));
        self.0.gauge_sink(sink, true);
    }

    /// The sink of this name, which was down, is not any more.
    pub(crate) fn sink_is_back(&self, sink: &Arc<str>) {
        let mut down = self.0.down();
        down.remove(sink);
        match down.is_empty() {
            true => self.resumed(Part::Sinks),
            false => self.interrupted(Part::Sinks, down_reason(&down)),
        }
        self.0.gauge_sink(sink, false);
    }

    /// A checkpoint was saved.
    pub(crate) fn checkpointed(&self) {
        self.0.modify(|status| {
            status.last_checkpoint = Some(Instant::now());
            status.interruptions[Part::Checkpoints as usize] = None;
        });
    }

    /// Everything before the change of this time is handled.
    pub(crate) fn handled_up_to(&self, time: SystemTime) {
        let time = DateTime::from_system_time(time).timestamp_millis();
        self.0.progress.handled_up_to.store(time, Relaxed);
    }

    /// Everything there is has been handled.
    pub(crate) fn caught_up(&self) {
        self.0.progress.handled_up_to.store(CAUGHT_UP, Relaxed);
    }

    pub(crate) fn in_flight(&self, events: usize) {
        self.0.progress.in_flight.store(events, Relaxed);
    }
}

impl Report {
    /// Changes the status, unless the runtime has stopped, and wakes those who wait for a change.
    fn modify(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_if_modified(|status| {
            if status.is_stopped() {
                return false;
            }
            let before = (status.state(), status.last_error.clone());
            change(status);
            before != (status.state(), status.last_error.clone())
        });
        metrics::gauge!("changestream_ready", "runtime" => self.runtime.to_string())
            .set(u8::from(self.status.borrow().is_ready()));
    }

    fn down(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gauge_sink(&self, sink: &Arc<str>, is_down: bool) {
        let labels = [
            ("runtime", self.runtime.to_string()),
            ("sink", sink.to_string()),
        ];
        metrics::gauge!("changestream_sink_down", &labels).set(u8::from(is_down));
    }

    fn count_interruption(&self, part: Part) {
        let part = match part {
            Part::Lease => "lease",
            Part::Stream => "stream",
            Part::Checkpoints => "checkpoints",
            Part::DeadLetters => "dead_letters",
            Part::Sinks => "sinks",
        };
        let labels = [
            ("runtime", self.runtime.to_string()),
            ("part", part.to_owned()),
        ];
        metrics::counter!("changestream_interruptions_total", &labels).increment(1);
    }
}

fn down_reason(down: &BTreeSet<Arc<str>>) -> String {
    let names: Vec<_> = down.iter().map(|sink| format!("`{sink}`")).collect();
    format!("down: sink {}", names.join(", "))
}

/// However a runtime ends, dropped in the middle too, its handles say so.
impl Drop for Report {
    fn drop(&mut self) {
        self.modify(|status| status.state = RuntimeState::Stopped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn running() -> (HealthReporter, Health) {
        let reporter = HealthReporter::new(&"test".into());
        let health = reporter.health();
        reporter.state(RuntimeState::Running);
        (reporter, health)
    }

    #[test]
    fn a_clock_that_is_wrong_by_an_hour_makes_no_negative_lag() {
        let (reporter, health) = running();
        assert_eq!(health.lag(), Duration::ZERO);
        reporter.handled_up_to(SystemTime::now() + HOUR);
        assert_eq!(health.lag(), Duration::ZERO);
        reporter.handled_up_to(SystemTime::now() - HOUR);
        assert!((HOUR..HOUR * 2).contains(&health.lag()));
        reporter.caught_up();
        assert_eq!(health.lag(), Duration::ZERO);
    }

    #[test]
    fn an_interruption_lasts_until_every_part_works_again() {
        let (reporter, health) = running();
        reporter.interrupted(Part::Stream, "first");
        let RuntimeState::Interrupted { since, .. } = health.state() else {
            panic!("{health:?}")
        };
        reporter.interrupted(Part::Stream, "second");
        let again = health.state();
        assert_eq!(
            again,
            RuntimeState::Interrupted {
                since,
                reason: "second".to_owned()
            }
        );
        reporter.interrupted(Part::Checkpoints, "third");
        reporter.resumed(Part::Stream);
        assert!(!health.is_ready() && health.is_live());
        reporter.checkpointed();
        assert!(health.is_ready());
        assert_eq!(health.last_error().as_deref(), Some("third"));
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_end_however_it_comes() {
        let (reporter, mut health) = running();
        assert_eq!(health.changed().await, Some(RuntimeState::Running));
        reporter.interrupted(Part::Stream, "lost");
        let waiting = health.clone();
        drop(reporter);
        assert!(!waiting.ready().await);
        assert_eq!(health.changed().await, Some(RuntimeState::Stopped));
        assert_eq!(health.changed().await, None);
        assert!(!health.is_live());
    }
}
