//! What a sink that is down does to its deliveries: they wait, or they fail without being sent.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};
use tower::{Service, ServiceExt, service_fn};

use super::{Backoff, StackRequest};
use crate::{
    handler::{Disposition, FailureKind, HandlerError},
    health::HealthReporter,
    sink::Delivery,
};

/// A part of a sink's stack.
pub(super) trait SinkService:
    Service<Delivery, Response = (), Error = HandlerError, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> SinkService for S where
    S: Service<Delivery, Response = (), Error = HandlerError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What happens to the deliveries of a sink while it is down.
///
/// A sink is down after five failures in a row that may be retried, until it takes a delivery or rejects one; what is
/// [unavailable](HandlerError::unavailable) does not count within ten seconds of an answer. Meanwhile one
/// delivery at a time tries it, with waits of up to a second at first and up to a minute later, and a different one each
/// time: a message that the receiver fails at does not stand before the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnSinkDown {
    /// They wait until it is back. A delivery whose attempts are used up becomes a dead letter only where the sink answered
    /// another one in the meantime, and not for a part of the receiver that is [not there](HandlerError::unavailable); else the
    /// sink is down, even after fewer than five failures. Events are taken in until
    /// as many wait as may be in flight, then none; the checkpoint waits with them.
    ///
    /// A delivery of a replay does not wait, nor does one of a [`TestRuntime`](crate::testing::TestRuntime) that is sent
    /// single events.
    #[default]
    Pause,
    /// They fail, and become dead letters when their attempts are used up.
    DeadLetter,
}

/// The state of a sink, which all its deliveries share.
#[derive(Debug)]
pub(crate) struct Breaker {
    sink: Arc<str>,
    on_down: OnSinkDown,
    /// After so many failures in a row it is down.
    threshold: u32,
    state: Mutex<State>,
    is_back: Notify,
    /// For the one delivery that may be tried while it is down.
    trial: Arc<Semaphore>,
    health: HealthReporter,
}

#[derive(Debug)]
struct State {
    /// In a row.
    failures: u32,
    /// Of these, by those that tried it while it was down.
    failed_trials: u32,
    /// What was taken, and what was rejected: that the receiver answers is what counts.
    answers: u64,
    last_answer: Option<Instant>,
    /// Not before this is it tried again.
    next_trial: Instant,
}

/// That a delivery may be sent.
enum Admitted {
    Freely,
    /// As the one that is tried.
    ForTrial {
        _trial: OwnedSemaphorePermit,
    },
}

impl Breaker {
    const THRESHOLD: u32 = 5;
    /// So long after the last answer, what is unavailable is a part of the receiver.
    const PARTLY: Duration = Duration::from_secs(10);
    /// Between trials.
    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

    pub(crate) fn new(
        sink: &str,
        on_down: OnSinkDown,
        attempts: u32,
        health: HealthReporter,
    ) -> Arc<Self> {
        let threshold = match on_down {
            // Who has failed as often as it may waits, if nobody else was answered.
            OnSinkDown::Pause => attempts.clamp(1, Self::THRESHOLD),
            OnSinkDown::DeadLetter => Self::THRESHOLD,
        };
        Arc::new(Self {
            sink: sink.into(),
            on_down,
            threshold,
            state: Mutex::new(State {
                failures: 0,
                failed_trials: 0,
                answers: 0,
                last_answer: None,
                next_trial: Instant::now(),
            }),
            is_back: Notify::new(),
            trial: Arc::new(Semaphore::new(1)),
            health,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it may be tried again, while it is down.
    fn next_trial(&self) -> Option<Instant> {
        let state = self.state();
        (state.failures >= self.threshold).then_some(state.next_trial)
    }

    /// Lets a delivery go: at once while the sink is up, else as `on_down` says.
    async fn admit(&self, delivery: &Delivery) -> Result<Admitted, HandlerError> {
        let next_trial = self.next_trial().filter(|_| delivery.turn().is_of_lane());
        let Some(next_trial) = next_trial else {
            return Ok(Admitted::Freely);
        };
        if self.on_down == OnSinkDown::Pause {
            return Ok(self.wait().await);
        }
        let trial = Arc::clone(&self.trial).try_acquire_owned();
        match trial {
            Ok(trial) if next_trial <= Instant::now() => Ok(Admitted::ForTrial { _trial: trial }),
            _ => Err(HandlerError::retry(format!(
                "the sink `{}` is down; nothing was sent to it",
                self.sink
            ))),
        }
    }

    /// Waits until the sink is back or it is this delivery's turn to try it.
    async fn wait(&self) -> Admitted {
        let mut trial = None;
        loop {
            let is_back = self.is_back.notified();
            let Some(next_trial) = self.next_trial() else {
                return Admitted::Freely;
            };
            tokio::select! {
                () = is_back => {}
                acquired = Arc::clone(&self.trial).acquire_owned(), if trial.is_none() => {
                    trial = acquired.ok();
                }
                () = sleep_until(next_trial), if trial.is_some() => {
                    if let Some(trial) = trial {
                        return Admitted::ForTrial { _trial: trial };
                    }
                }
            }
        }
    }

    /// Takes note of how an attempt ended.
    fn note(&self, admitted: &Admitted, result: &Result<(), HandlerError>) {
        let failure = result.as_ref().err();
        let failure = failure.filter(|error| error.disposition() != Disposition::Reject);
        let mut state = self.state();
        let was_down = state.failures >= self.threshold;
        let Some(error) = failure else {
            (state.failures, state.failed_trials) = (0, 0);
            state.answers += 1;
            state.last_answer = Some(Instant::now());
            if was_down {
                tracing::info!(sink = %self.sink, "the sink is back");
                self.health.sink_is_back(&self.sink);
                self.is_back.notify_waiters();
            }
            return;
        };
        let last_answer = state.last_answer.map(|answer| answer.elapsed());
        if error.kind() == FailureKind::Unavailable
            && last_answer.is_some_and(|ago| ago < Self::PARTLY)
        {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures < self.threshold {
            return;
        }
        let is_trial = matches!(admitted, Admitted::ForTrial { .. });
        let wait = match error.disposition() {
            Disposition::RetryAfter(pause) => pause,
            // What was under way when it went down says nothing new, however many there are.
            _ if was_down && !is_trial => return,
            _ => {
                state.failed_trials += u32::from(is_trial);
                Self::BACKOFF.wait(state.failed_trials + 1)
            }
        };
        state.next_trial = Instant::now() + wait;
        if !was_down {
            tracing::warn!(
                sink = %self.sink, failures = state.failures, on_down = ?self.on_down, "the sink is down"
            );
            self.health.sink_is_down(&self.sink);
        }
    }

    /// Sends one attempt, when the sink is to be sent to.
    pub(super) fn admitting<S>(self: &Arc<Self>, attempt: S) -> impl SinkService
    where
        S: SinkService,
    {
        let breaker = Arc::clone(self);
        service_fn(move |delivery: Delivery| {
            let (breaker, attempt) = (Arc::clone(&breaker), attempt.clone());
            async move {
                let admitted = breaker.admit(&delivery).await?;
                let result = attempt.oneshot(delivery).await;
                breaker.note(&admitted, &result);
                result
            }
        })
    }

    /// Begins a delivery anew whose `attempts` are used up, where that is the sink's fault and it may wait.
    pub(super) fn pausing<S>(self: &Arc<Self>, attempts: S) -> impl SinkService
    where
        S: SinkService,
    {
        let breaker = Arc::clone(self);
        service_fn(move |delivery: Delivery| {
            let (breaker, attempts) = (Arc::clone(&breaker), attempts.clone());
            async move {
                let may_wait = breaker.on_down == OnSinkDown::Pause && delivery.turn().is_of_lane();
                let mut unavailable = 0;
                loop {
                    let answers = breaker.state().answers;
                    let result = attempts.clone().oneshot(delivery.clone()).await;
                    let is_down = breaker.state().answers == answers;
                    match &result {
                        Err(error) if may_wait && error.disposition() != Disposition::Reject => {
                            if is_down {
                                continue;
                            }
                            if error.kind() != FailureKind::Unavailable {
                                return result;
                            }
                        }
                        _ => return result,
                    }
                    // Others are answered: what is not there is not tried for each of its messages all the time.
                    unavailable += 1;
                    sleep(Self::BACKOFF.wait(unavailable)).await;
                }
            }
        })
    }
}
