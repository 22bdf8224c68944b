use std::{sync::Arc, time::Duration};

use mongodb::Client;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep},
};

use super::{
    Batch, Lookup, OnInvalidate, OnLostHistory, OnOversizeEvent, Plan, Position, cursor::Cursor,
    fault::Fault, oversize::Reading, patience::Patience, prefetch::BATCHES,
    preflight::splits_events,
};
use crate::{
    connection::close_if_unauthorized,
    error::{Error, Kind, brief},
    event::Operation,
    gap::{GapKind, GapRecorder},
    health::{HealthReporter, Part},
    layer::Backoff,
    shutdown::stopped,
};

/// Between attempts to resume or reopen: the first waits at most 100 ms, later ones up to 10 s.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// A stream that stays open this long is out of trouble; a failure before that is one more of the same storm.
const STEADY: Duration = Duration::from_secs(10);

/// How often opening is tried at start-up before it counts as failed.
const OPENING_ATTEMPTS: u32 = 5;

/// The task that owns the cursor.
///
/// It reads one batch ahead of the one that is being worked on, and asks for no further one.
pub(crate) struct SourceTask {
    plan: Plan,
    client: Client,
    position: Position,
    gaps: GapRecorder,
    batches: mpsc::Sender<Batch>,
    /// For the batches that there may be at a time.
    room: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    /// How long the server is to wait for a change.
    await_time: watch::Receiver<Duration>,
    health: HealthReporter,
    patience: Patience,
    state: State,
    reading: Reading,
    /// Whether events that are too large come in parts. All events cost the server more then, so one must have come.
    splits: bool,
    stage: Stage,
    lookup: Option<Lookup>,
    /// What was read and not looked up yet.
    rest: Option<Batch>,
}

/// How far it is.
enum Stage {
    /// The stream was not open yet; whether history was given up for that.
    Opening { is_after_gap: bool },
    /// The stream was opened, and what came of it is relied upon.
    Reading,
}

/// Where the stream starts.
pub(crate) struct Start {
    pub(crate) position: Position,
    /// What was before it is lost, and written down as a gap.
    pub(crate) is_after_gap: bool,
}

enum State {
    /// There is no cursor; after so many failures in a row, one is to be opened.
    Closed { failures: u32 },
    /// The cursor is open. The failures before it count until it has been for a while.
    Open {
        cursor: Cursor,
        failures: u32,
        since: Instant,
    },
}

impl State {
    /// The failures in a row, with the one that was just met.
    fn failures(&self) -> u32 {
        match self {
            Self::Open { since, .. } if since.elapsed() >= STEADY => 1,
            Self::Open { failures, .. } | Self::Closed { failures } => failures + 1,
        }
    }
}

/// What others may ask of it while it runs.
pub(crate) struct Wishes {
    pub(crate) stop: watch::Receiver<bool>,
    /// How long the server is to wait for a change.
    pub(crate) await_time: watch::Receiver<Duration>,
}

impl SourceTask {
    pub(crate) fn new(
        plan: Plan,
        client: Client,
        position: Position,
        gaps: GapRecorder,
        batches: mpsc::Sender<Batch>,
        Wishes { stop, await_time }: Wishes,
        health: HealthReporter,
    ) -> Self {
        Self {
            patience: plan.patience(),
            plan,
            client,
            position,
            gaps,
            batches,
            room: Arc::new(Semaphore::new(BATCHES)),
            stop,
            await_time,
            health,
            state: State::Closed { failures: 0 },
            reading: Reading::default(),
            splits: false,
            stage: Stage::Opening {
                is_after_gap: false,
            },
            lookup: None,
            rest: None,
        }
    }

    /// The same, with the documents of updates from `lookup`.
    pub(crate) fn looking_up(self, lookup: Option<Lookup>) -> Self {
        Self { lookup, ..self }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Opens the stream before it is certain that it starts here. What goes wrong does so again in
    /// [`open`](Self::open), which is still due.
    pub(crate) async fn open_ahead(&mut self) {
        if let Err(Fault::Resumable(error) | Fault::Transient(error)) = self.try_open(0).await {
            self.patience.failed(&error);
        }
    }

    /// Where the stream starts. What was opened ahead is dropped.
    pub(crate) fn start_from(&mut self, position: Position) {
        self.position = position;
        self.state = State::Closed { failures: 0 };
    }

    /// Opens the stream for the first time, unless that was done ahead, so that what is wrong with it shows at start-up, and says where
    /// it starts: "now" becomes a token, from which a restart can go on.
    pub(crate) async fn open(&mut self) -> Result<Start, Error> {
        let mut failures = 0;
        while matches!(self.state, State::Closed { .. })
            && let Err(fault) = self.try_open(failures).await
        {
            if let (Fault::Resumable(error) | Fault::Transient(error), true) =
                (&fault, failures + 1 == OPENING_ATTEMPTS)
            {
                let message = "the change stream cannot be opened";
                return Err(Error::new(Kind::Unreachable, message).caused_by(error.clone()));
            }
            self.fail(fault).await?;
            failures += 1;
        }
        self.health.resumed(Part::Stream);
        let opened = std::mem::replace(&mut self.stage, Stage::Reading);
        Ok(Start {
            position: self.position.clone(),
            is_after_gap: matches!(opened, Stage::Opening { is_after_gap: true }),
        })
    }

    async fn try_open(&mut self, failures: u32) -> Result<(), Fault> {
        if let Position::Now = self.position {
            self.position = Cursor::now(&self.plan, &self.client, self.patience.time()).await?;
        }
        let is_between_parts = self.position.is_of_split_event();
        let plan = match self.reading {
            Reading::InBatches if self.splits || is_between_parts => &self.plan.splitting(),
            Reading::InBatches => &self.plan,
            Reading::Singly { .. } if is_between_parts => &self.plan.singly().splitting(),
            Reading::Singly { .. } => &self.plan.singly(),
            Reading::Header => &self.plan.headers(),
        };
        let patience = self.patience.time();
        let room = Arc::clone(&self.room);
        let cursor = Cursor::open(plan, &self.client, &self.position, patience, room).await?;
        self.state = State::Open {
            cursor,
            failures,
            since: Instant::now(),
        };
        Ok(())
    }

    /// Reads batches until it is told to stop or the stream fails for good.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        let batches = self.batches.clone();
        loop {
            let place = tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                place = batches.reserve() => place,
            };
            let Ok(place) = place else { return Ok(()) };
            // A cursor dropped here is not missed: nobody reads on.
            let batch = tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                batch = self.next() => batch?,
            };
            let ends = self.plan.policy().invalidate == OnInvalidate::Stop && invalidates(&batch);
            place.send(batch);
            if ends {
                return Err(Error::new(
                    Kind::Invalidated,
                    "what the stream watches was dropped or renamed; everything before is done. Start again to go \
                     on with what has taken the name, or choose `OnInvalidate::Restart`",
                ));
            }
        }
    }

    /// The next batch.
    async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            if let Some(batch) = self.rest.take() {
                match self.complete(batch).await {
                    Ok(batch) => return Ok(batch),
                    Err(fault) => self.fail(fault).await?,
                }
            }
            self.keep_await_time();
            match &mut self.state {
                State::Closed { failures } => {
                    let failures = *failures;
                    match self.try_open(failures).await {
                        Ok(()) => {
                            crate::crash_point!("source.reopened");
                        }
                        Err(fault) => self.fail(fault).await?,
                    }
                }
                State::Open { cursor, .. } => match cursor.next().await {
                    Ok(Some(batch)) => {
                        crate::crash_point!("source.batch_received");
                        let got_more = cursor.has_got_more();
                        if got_more {
                            self.patience.answered();
                            self.health.resumed(Part::Stream);
                        }
                        self.read(&batch, got_more);
                        // Without an end, it was the middle of a split event.
                        self.rest = batch.end().is_some().then_some(batch);
                    }
                    Ok(None) => {
                        let failures = self.state.failures();
                        self.state = State::Closed { failures };
                        let reason = "the server closed the cursor";
                        self.health.interrupted(Part::Stream, reason);
                        sleep(BACKOFF.wait(failures)).await;
                    }
                    Err(fault) => self.fail(fault).await?,
                },
            }
        }
    }

    /// Looks up what is wanted of a batch, or of its first part, after which the stream goes on then.
    async fn complete(&mut self, batch: Batch) -> Result<Batch, Fault> {
        let (part, rest) = match &self.lookup {
            Some(lookup) => lookup.complete(batch, self.patience.time()).await?,
            None => (batch, None),
        };
        self.rest = rest;
        if let Some(end) = part.end() {
            let (token, kind) = end.token();
            self.position = Position::Token(token, kind);
        }
        Ok(part)
    }

    /// A cursor keeps the time that it was opened with.
    fn keep_await_time(&mut self) {
        let await_time = *self.await_time.borrow_and_update();
        if self.plan.await_time == await_time {
            return;
        }
        self.plan.await_time = await_time;
        if let State::Open { failures, .. } = self.state {
            self.state = State::Closed { failures };
        }
    }

    /// Goes back to batches when the event that was too large is passed, or is no longer found.
    fn read(&mut self, batch: &Batch, got_more: bool) {
        let events = u32::try_from(batch.events.len()).unwrap_or(u32::MAX);
        let is_past = match &mut self.reading {
            Reading::InBatches => false,
            Reading::Singly { left } => {
                *left = left.saturating_sub(events);
                *left == 0 || (got_more && events == 0)
            }
            Reading::Header => events > 0,
        };
        if is_past {
            self.reading = Reading::InBatches;
            self.state = State::Closed { failures: 0 };
        }
    }

    /// Does about `fault` what its kind and the policies say.
    async fn fail(&mut self, fault: Fault) -> Result<(), Error> {
        let failures = self.state.failures();
        self.state = State::Closed { failures };
        let policy = self.plan.policy();
        match fault {
            Fault::Resumable(error) | Fault::Transient(error) => {
                self.back_off(failures, &error).await;
            }
            Fault::HistoryLost(error) => match (policy.lost_history, &self.stage) {
                (OnLostHistory::Fail, _) => return Err(Fault::HistoryLost(error).into_error()),
                // Documents are read again from the first, which is for a start to do.
                (OnLostHistory::Snapshot, Stage::Reading) => {
                    let message = "the oplog no longer holds the place to go on from (ChangeStreamHistoryLost); \
                                   starting over, with a snapshot";
                    self.health.interrupted(Part::Stream, message);
                    return Err(Error::new(Kind::StartsOver, message).caused_by(error));
                }
                (OnLostHistory::Snapshot | OnLostHistory::StartNow, _) => {
                    match self.start_now().await {
                        Ok(()) => sleep(BACKOFF.wait(failures)).await,
                        Err(Fault::Resumable(error) | Fault::Transient(error)) => {
                            self.back_off(failures, &error).await;
                        }
                        Err(fault) => return Err(fault.into_error()),
                    }
                }
            },
            Fault::Oversize(error) if policy.oversize_event == OnOversizeEvent::Split => {
                return self.split(failures, error).await;
            }
            Fault::Oversize(error) if policy.oversize_event == OnOversizeEvent::DeadLetter => {
                self.reading = match self.reading {
                    Reading::InBatches => Reading::Singly {
                        left: self.plan.batch_size(),
                    },
                    Reading::Singly { .. } => Reading::Header,
                    Reading::Header => return Err(Fault::Oversize(error).into_error()),
                };
            }
            Fault::CannotResume(error) => match self.position.before_split_event() {
                Some(position) => {
                    tracing::warn!(
                        "the server would not split the last event as before; going on from its time, so that \
                         events of that time come again"
                    );
                    self.position = position;
                }
                None => return Err(Fault::CannotResume(error).into_error()),
            },
            fault => return Err(fault.into_error()),
        }
        Ok(())
    }

    /// Goes on in a stream that splits events, from the event that is too large. Not before it: events have other tokens
    /// there, and so other identities.
    async fn split(&mut self, failures: u32, error: mongodb::error::Error) -> Result<(), Error> {
        if self.splits {
            return Err(Fault::Oversize(error).into_error());
        }
        match (splits_events(&self.client).await, self.reading) {
            (Err(unanswered), _) => {
                let reason = unanswered.to_string();
                self.health.interrupted(Part::Stream, reason);
                sleep(BACKOFF.wait(failures)).await;
            }
            (Ok(false), _) => return Err(Fault::Oversize(error).into_error()),
            (Ok(true), Reading::InBatches) => {
                let left = self.plan.batch_size();
                self.reading = Reading::Singly { left };
            }
            (Ok(true), _) => {
                self.splits = true;
                self.reading = Reading::InBatches;
            }
        }
        Ok(())
    }

    async fn back_off(&mut self, failures: u32, error: &mongodb::error::Error) {
        self.patience.failed(error);
        close_if_unauthorized(&self.client, error).await;
        let error = brief(error);
        self.health.interrupted(Part::Stream, error.clone());
        let wait = BACKOFF.wait(failures);
        tracing::warn!(
            failures,
            ?wait,
            error,
            "the change stream was interrupted; it goes on where it was"
        );
        sleep(wait).await;
    }

    /// Gives up what lies between the position and now, once that is written down.
    async fn start_now(&mut self) -> Result<(), Fault> {
        let now = Cursor::now(&self.plan, &self.client, self.patience.time()).await?;
        let gap = self.gaps.record(GapKind::LostHistory, &self.position, &now);
        gap.await;
        self.position = now;
        if let Stage::Opening { is_after_gap } = &mut self.stage {
            *is_after_gap = true;
        }
        Ok(())
    }
}

fn invalidates(batch: &Batch) -> bool {
    let mut events = batch.events.iter();
    events.any(|event| *event.operation() == Operation::Invalidate)
}
