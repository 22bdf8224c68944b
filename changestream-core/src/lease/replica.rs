use std::{error::Error as _, future::Future, sync::Arc, time::Duration};

use bson::Uuid;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{Lease, LeaseStore};
use crate::{
    error::{Error, Kind, StoreError},
    health::{HealthReporter, Part, RuntimeState},
    layer::Backoff,
};

/// Between attempts to acquire the lease.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Before standing by anew.
const PAUSE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));

/// How often acquiring is tried at start-up before it counts as failed.
const START_ATTEMPTS: u32 = 5;

/// How long whoever stands by waits at most before it looks again.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// How long a release may take; after that the lease runs out by itself.
const RELEASE: Duration = Duration::from_secs(2);

/// One of the processes that run a runtime of some name, of which one at a time is active.
#[derive(Debug)]
pub(crate) struct Replica {
    store: Arc<dyn LeaseStore>,
    name: Arc<str>,
    /// For how long the lease is asked.
    time: Duration,
    health: HealthReporter,
    is_standing_by: bool,
    /// The holder that the lease may have been given to without our knowing it.
    bid: Option<String>,
    /// Whether it once came to know that another one is active.
    has_stood_by: bool,
}

/// The lease in our hands.
#[derive(Debug)]
pub(crate) struct Tenure {
    lease: Lease,
    /// On our own monotonic clock, and not later than on the store's.
    until: Instant,
}

/// What came of asking for the lease.
enum Answer {
    Given(Tenure),
    /// Another one has it.
    Taken(Lease),
}

impl Tenure {
    pub(crate) fn epoch(&self) -> i64 {
        self.lease.epoch
    }
}

impl Replica {
    pub(crate) fn new(
        store: Arc<dyn LeaseStore>,
        name: Arc<str>,
        time: Duration,
        health: HealthReporter,
    ) -> Self {
        Self {
            store,
            name,
            time,
            health,
            is_standing_by: false,
            bid: None,
            has_stood_by: false,
        }
    }

    /// Waits for the lease, in an epoch above `above`. When it is dropped before it is done,
    /// [`withdraw`](Self::withdraw) is due.
    pub(crate) async fn acquire(&mut self, above: i64) -> Result<Tenure, Error> {
        let holder = Uuid::new().to_string();
        let mut failures = 0;
        loop {
            match self.ask(&holder, above).await {
                Ok(Answer::Given(tenure)) => return Ok(tenure),
                Ok(Answer::Taken(lease)) => {
                    (self.has_stood_by, failures) = (true, 0);
                    if self.stands_by_from_now() {
                        let holder = lease.holder.as_deref();
                        tracing::info!(
                            lease = %self.name,
                            holder,
                            "another replica is active; standing by"
                        );
                    }
                    self.stand_by(lease).await;
                }
                Err(error) => {
                    failures += 1;
                    if !self.has_stood_by && failures == START_ATTEMPTS {
                        let message = "the lease cannot be acquired";
                        return Err(Error::new(Kind::Store, message).caused_by(error));
                    }
                    let wait = BACKOFF.wait(failures);
                    self.health.interrupted(Part::Lease, error.brief());
                    tracing::warn!(
                        error = error.brief(),
                        ?wait,
                        "the lease cannot be acquired; it is tried again"
                    );
                    sleep(wait).await;
                }
            }
        }
    }

    /// Takes the lease if it is free. When it is dropped before it is done, or fails,
    /// [`withdraw`](Self::withdraw) is due.
    pub(crate) async fn try_acquire(&mut self, above: i64) -> Result<Option<Tenure>, Error> {
        let holder = Uuid::new().to_string();
        match self.ask(&holder, above).await {
            Ok(Answer::Given(tenure)) => Ok(Some(tenure)),
            Ok(Answer::Taken(_)) => Ok(None),
            Err(error) => {
                let message = format!("the lease `{}` cannot be acquired", self.name);
                Err(Error::new(Kind::Store, message).caused_by(error))
            }
        }
    }

    /// Whether another one was seen to be active.
    pub(crate) fn has_stood_by(&self) -> bool {
        self.has_stood_by
    }

    async fn ask(&mut self, holder: &str, above: i64) -> Result<Answer, StoreError> {
        let sent = Instant::now();
        self.bid = Some(holder.to_owned());
        let acquiring = self.store.acquire(&self.name, holder, self.time, above);
        let lease = answer(timeout(self.time / 3, acquiring).await)?;
        self.health.resumed(Part::Lease);
        if !lease.is_held_by(holder) {
            self.bid = None;
            return Ok(Answer::Taken(lease));
        }
        let until = sent + self.time;
        tracing::info!(lease = %self.name, epoch = lease.epoch, holder, "the lease is acquired");
        self.is_standing_by = false;
        self.health.state(RuntimeState::Starting);
        Ok(Answer::Given(Tenure { lease, until }))
    }

    /// Waits until `lease` is released or has run out.
    async fn stand_by(&self, lease: Lease) {
        let mut expiry = Instant::now() + lease.remaining;
        loop {
            let look = Instant::now() + LOOK.min(self.time / 10);
            sleep_until(look.min(expiry)).await;
            if Instant::now() >= expiry {
                return;
            }
            let loading = self.store.load(&self.name);
            match answer(timeout_at(expiry, loading).await) {
                Ok(Some(lease)) if lease.is_free() => return,
                Ok(Some(lease)) => expiry = Instant::now() + lease.remaining,
                // The store has lost it, but its holder still has it.
                Ok(None) => {}
                Err(error) => tracing::debug!(error = error.brief(), "the lease cannot be read"),
            }
        }
    }

    /// Does `work` for as long as the lease is ours, and drops it when it no longer is.
    pub(crate) async fn hold<T>(
        &self,
        tenure: &mut Tenure,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // First a look at the lease: a process that was stopped for a while may have lost it.
        tokio::select! {
            biased;
            lost = self.renew(tenure) => Err(Error::new(Kind::LeaseLost, lost)),
            done = work => done,
        }
    }

    /// Renews the lease until it is lost; says how that came.
    async fn renew(&self, tenure: &mut Tenure) -> &'static str {
        let mut wait = self.time / 3;
        loop {
            sleep_until(tenure.until.min(Instant::now() + wait)).await;
            let sent = Instant::now();
            if sent >= tenure.until {
                return "the lease has run out before it could be renewed";
            }
            let renewing = self.store.renew(&self.name, &tenure.lease, self.time);
            let patience = tenure.until.min(sent + self.time / 6);
            let holder = tenure.lease.holder.as_deref().unwrap_or_default();
            match answer(timeout_at(patience, renewing).await) {
                Ok(lease) if lease.is_held_by(holder) => {
                    self.health.resumed(Part::Lease);
                    tenure.until = sent + self.time;
                    wait = self.time / 3;
                }
                Ok(_) => return "another replica holds the lease",
                Err(error) => {
                    self.health.interrupted(Part::Lease, error.brief());
                    tracing::warn!(
                        error = error.brief(),
                        "the lease cannot be renewed; it is tried again"
                    );
                    wait = self.time / 12;
                }
            }
        }
    }

    /// Gives the lease back, so that another replica takes over at once.
    pub(crate) async fn release(&mut self, tenure: Tenure) {
        self.bid = tenure.lease.holder;
        self.withdraw().await;
    }

    /// Gives the lease back if we have it, whether we know it or not.
    pub(crate) async fn withdraw(&mut self) {
        let Some(holder) = self.bid.take() else {
            return;
        };
        let releasing = self.store.release(&self.name, &holder);
        if let Err(error) = answer(timeout(RELEASE, releasing).await) {
            tracing::warn!(
                error = error.brief(),
                "the lease cannot be released; it runs out by itself"
            );
        }
    }

    /// Whether it goes on standing by after `error`: it does when the lease is lost, or the next start is to make up
    /// for lost history, and whatever keeps it from taking over later than at its first start may pass.
    pub(crate) fn outlives(&mut self, error: &Error) -> bool {
        let is_lost = error.is_lease_lost() || error.is_repartitioned() || error.starts_over();
        let passes = error.is_unreachable() || error.is_store();
        if !(is_lost || self.has_stood_by && passes) {
            return false;
        }
        self.has_stood_by = true;
        self.stands_by_from_now();
        let cause = error.source().map(ToString::to_string);
        tracing::warn!(lease = %self.name, %error, cause, "not active any more; standing by");
        true
    }

    /// Waits a little before it stands by anew.
    pub(crate) async fn pause(&self) {
        sleep(PAUSE.wait(1)).await;
    }

    /// Whether that is news.
    fn stands_by_from_now(&mut self) -> bool {
        self.health.state(RuntimeState::StandingBy);
        !std::mem::replace(&mut self.is_standing_by, true)
    }
}

/// An answer that did not come in time is a failure of the store.
fn answer<T, E>(reply: Result<Result<T, StoreError>, E>) -> Result<T, StoreError> {
    reply.unwrap_or_else(|_elapsed| Err(StoreError::new("the lease store does not answer")))
}
