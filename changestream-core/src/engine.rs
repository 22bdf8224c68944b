//! The run loop: from the batches of a source to the lanes, and from the low-water mark to the checkpoints.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
    vec,
};

use metrics::{Gauge, Label};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    config::Config,
    event::RawChange,
    extract::Needs,
    handler::BatchLimits,
    health::HealthReporter,
    key::KeyHasher,
    lane::{Lanes, Leash},
    layer::{HandlerStacks, ImageGuard},
    partition::Partition,
    route::Router,
    shutdown::stopped,
    snapshot::Incoming,
    source::{Batch, Mark},
    tracker::Tracker,
};

/// The handlers with all that is around them, ready for events from wherever they come.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) router: Router,
    /// Which events it takes; all of them where there is none.
    pub(crate) partition: Option<Partition>,
    pub(crate) handlers: Vec<Registered>,
}

/// A handler in its place.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) name: Arc<str>,
    pub(crate) stacks: HandlerStacks,
    pub(crate) key: KeyHasher,
    pub(crate) needs: Needs,
    pub(crate) batch: Option<BatchLimits>,
}

impl Engine {
    /// Puts `guard` around the handlers that require images.
    pub(crate) fn guard_images(&mut self, guard: &ImageGuard) {
        for handler in &mut self.handlers {
            handler.stacks = guard.around(handler.needs, handler.stacks.clone());
        }
    }
}

/// Drives an engine with the batches of a source, and hands out what can be checkpointed.
pub(crate) struct Drive {
    lanes: Lanes,
    rows: Incoming,
    marks: mpsc::Sender<Mark>,
    config: Config,
    health: HealthReporter,
    lag: Gauge,
}

/// What is left of the batch at hand.
#[derive(Default)]
struct AtHand {
    events: vec::IntoIter<RawChange>,
    end: Option<Mark>,
    /// That of the batch, until it is done.
    room: Option<OwnedSemaphorePermit>,
    /// There was nothing in it.
    is_idle: bool,
}

/// How a drive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Nothing is in flight.
    Yes,
    /// The deadline passed, it was told to give up, or nobody takes marks any more.
    No,
}

impl Drive {
    pub(crate) fn new(
        engine: Engine,
        rows: Incoming,
        marks: mpsc::Sender<Mark>,
        config: Config,
        runtime: &Arc<str>,
        health: HealthReporter,
    ) -> Self {
        let mut labels = vec![Label::new("runtime", Arc::clone(runtime))];
        if let Some(Partition { index, .. }) = engine.partition {
            labels.push(Label::new("partition", index.to_string()));
        }
        Self {
            lanes: Lanes::new(engine, config),
            rows,
            marks,
            config,
            health,
            lag: metrics::gauge!("changestream_lag_seconds", labels),
        }
    }

    /// Ends the handlers where they are, when it is dropped.
    pub(crate) fn leash(&self) -> Leash {
        self.lanes.leash()
    }

    /// Works until there are no more batches or it is told to stop; then finishes what is in flight, until the
    /// drain deadline or until it is told to give that up, and hands out the last mark.
    pub(crate) async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut stop: watch::Receiver<bool>,
        mut give_up: watch::Receiver<bool>,
    ) -> Drained {
        let mut ticks = interval(self.config.checkpoint_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut at_hand = AtHand::default();
        let mut last_checkpoint = Instant::now();
        let mut deadline = None;
        let drained = loop {
            let is_draining = deadline.is_some();
            if !is_draining {
                self.admit(&mut at_hand);
                self.rows.admit(&mut self.lanes, !at_hand.is_done());
            } else if self.lanes.is_idle() {
                break Drained::Yes;
            }
            self.measure_lag(at_hand.is_idle);
            self.lanes.begin();
            let is_due = self.is_checkpoint_due(last_checkpoint.elapsed());
            let wants_batch = !is_draining && at_hand.is_done();
            let expired = sleep_until(deadline.unwrap_or_else(Instant::now));
            let begin_to_drain = || Some(Instant::now() + self.config.drain_deadline);
            tokio::select! {
                biased;
                () = stopped(&mut stop), if !is_draining => deadline = begin_to_drain(),
                () = stopped(&mut give_up) => break Drained::No,
                () = expired, if is_draining => break Drained::No,
                permit = self.marks.reserve(), if is_due => match permit {
                    Ok(permit) => {
                        if let Some(mark) = self.lanes.tracker(Tracker::take_low_water_mark) {
                            permit.send(mark);
                        }
                        last_checkpoint = Instant::now();
                    }
                    Err(_closed) => return Drained::No,
                },
                () = self.marks.closed(), if !is_due => return Drained::No,
                () = self.lanes.progress() => {}
                batch = batches.recv(), if wants_batch => match batch {
                    Some(batch) => at_hand = AtHand::from(batch),
                    None => deadline = begin_to_drain(),
                },
                chunk = self.rows.chunks.recv(), if !is_draining => match chunk {
                    Some(chunk) => self.rows.push(chunk),
                    // Who reads snapshots has failed and says so itself.
                    None => deadline = begin_to_drain(),
                },
                _ = ticks.tick() => {}
            }
        };
        crate::crash_point!("shutdown.drained");
        if let Some(mark) = self.lanes.tracker(Tracker::take_low_water_mark) {
            // Whoever took marks has failed and says so itself.
            self.marks.send(mark).await.ok();
        }
        drained
    }

    /// Hands the batch at hand to the lanes, as far as there is room and the checkpoints keep up.
    fn admit(&mut self, at_hand: &mut AtHand) {
        let events = at_hand.events.as_slice();
        let admitted = self.lanes.admit(events);
        self.rows.windows.note(&events[..admitted]);
        at_hand.events.by_ref().take(admitted).for_each(drop);
        if at_hand.events.len() > 0 {
            return;
        }
        if let Some(end) = at_hand.end.take() {
            if let Some(time) = end.token().0.cluster_time() {
                self.rows.windows.reach(time);
            }
            self.lanes.tracker(|tracker| tracker.end_of_batch(end));
            crate::crash_point!("batch.ended");
        }
        at_hand.room = None;
    }

    fn is_checkpoint_due(&self, elapsed: Duration) -> bool {
        let (has_mark, passed) = self
            .lanes
            .tracker(|tracker| (tracker.has_low_water_mark(), tracker.passed()));
        let interval = match passed {
            0 => self.config.idle_checkpoint_interval(),
            _ => self.config.checkpoint_interval,
        };
        has_mark && elapsed >= interval || self.lanes.is_checkpoint_due()
    }

    fn measure_lag(&self, is_idle: bool) {
        let (events, oldest) = self
            .lanes
            .tracker(|tracker| (tracker.events(), tracker.oldest()));
        self.health.in_flight(events);
        if is_idle && events == 0 {
            self.lag.set(0.0);
            self.health.caught_up();
        } else if let Some(written) = oldest {
            self.health.handled_up_to(written);
            let lag = SystemTime::now().duration_since(written);
            self.lag.set(lag.unwrap_or_default().as_secs_f64());
        }
    }
}

impl AtHand {
    fn is_done(&self) -> bool {
        self.events.len() == 0 && self.end.is_none()
    }
}

impl From<Batch> for AtHand {
    fn from(batch: Batch) -> Self {
        crate::crash_point!("batch.begun");
        Self {
            end: batch.end(),
            room: batch.room,
            is_idle: batch.events.is_empty(),
            events: batch.events.into_iter(),
        }
    }
}
