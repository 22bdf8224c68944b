//! The run loop: events in stream order, each through its handlers, then below the low-water mark.

use std::{sync::Arc, time::SystemTime};

use metrics::Gauge;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tower::{Service, ServiceExt};

use crate::{
    config::Config,
    event::RawChange,
    handler::ChangeRequest,
    layer::{HandlerStack, Outcome},
    route::Router,
    shutdown::stopped,
    source::{Batch, Mark},
    tracker::Tracker,
};

/// The handlers with all that is around them, ready for events from wherever they come.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) router: Router,
    pub(crate) handlers: Vec<(Arc<str>, HandlerStack)>,
}

impl Engine {
    /// Runs `change` through each handler that wants it, one after the other.
    pub(crate) async fn handle(&mut self, change: &RawChange) -> Vec<(Arc<str>, Outcome)> {
        let mut outcomes = Vec::new();
        for index in self.router.route(change) {
            let (name, stack) = &mut self.handlers[index];
            let request = ChangeRequest::new(change.clone(), Arc::clone(name));
            let Ok(stack) = stack.ready().await;
            let Ok(outcome) = stack.call(request).await;
            outcomes.push((Arc::clone(name), outcome));
        }
        outcomes
    }
}

/// Drives an engine with the batches of a source, and hands out what can be checkpointed.
pub(crate) struct Drive {
    engine: Engine,
    tracker: Tracker,
    marks: mpsc::Sender<Mark>,
    config: Config,
    lag: Gauge,
    last_checkpoint: Instant,
    /// Events done since the last checkpoint.
    done: u64,
}

impl Drive {
    pub(crate) fn new(
        engine: Engine,
        marks: mpsc::Sender<Mark>,
        config: Config,
        runtime: &str,
    ) -> Self {
        Self {
            engine,
            tracker: Tracker::default(),
            marks,
            config,
            lag: metrics::gauge!("changestream_lag_seconds", "runtime" => runtime.to_owned()),
            last_checkpoint: Instant::now(),
            done: 0,
        }
    }

    /// Works until there are no more batches or it is told to stop; then finishes the event at hand and
    /// hands out the last mark.
    ///
    /// Ends early when nobody takes marks any more.
    pub(crate) async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut ticks = interval(self.config.checkpoint_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let batch = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = self.marks.closed() => return,
                batch = batches.recv() => batch,
                _ = ticks.tick() => {
                    if self.checkpoint_if_due().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            if self.work_off(batch, &stop).await.is_err() {
                return;
            }
        }
        crate::crash_point!("shutdown.drained");
        if let Some(mark) = self.tracker.take_low_water_mark() {
            // Whoever took marks has failed and says so itself.
            self.marks.send(mark).await.ok();
        }
    }

    async fn work_off(
        &mut self,
        batch: Batch,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), NoTaker> {
        crate::crash_point!("batch.begun");
        let end = batch.end();
        let caught_up = batch.events.is_empty();
        for change in batch.events {
            if *stop.borrow() {
                return Ok(());
            }
            let sequence = self.tracker.begin(Mark::Event(change.clone()));
            crate::crash_point!("event.begun");
            if cfg!(changestream_mutant = "commit_before_effect") {
                self.tracker.done(sequence);
                self.done += 1;
                self.checkpoint_if_due().await?;
            }
            self.engine.handle(&change).await;
            crate::crash_point!("event.handled");
            self.tracker.done(sequence);
            if cfg!(changestream_mutant = "post_batch_in_flight")
                && let Some(end) = end.clone()
            {
                let sequence = self.tracker.begin(end);
                self.tracker.done(sequence);
            }
            crate::crash_point!("event.done");
            self.done += 1;
            self.measure_lag(&change);
            self.checkpoint_if_due().await?;
        }
        if let Some(end) = end {
            let sequence = self.tracker.begin(end);
            self.tracker.done(sequence);
            crate::crash_point!("batch.ended");
        }
        if caught_up {
            self.lag.set(0.0);
        }
        Ok(())
    }

    fn measure_lag(&self, change: &RawChange) {
        if let Some(written) = change.wall_time() {
            let lag = SystemTime::now().duration_since(written);
            self.lag.set(lag.unwrap_or_default().as_secs_f64());
        }
    }

    async fn checkpoint_if_due(&mut self) -> Result<(), NoTaker> {
        let elapsed = self.last_checkpoint.elapsed();
        let due = match self.done {
            0 => elapsed >= self.config.idle_checkpoint_interval(),
            done => {
                done >= self.config.checkpoint_events || elapsed >= self.config.checkpoint_interval
            }
        };
        if !due {
            return Ok(());
        }
        if let Some(mark) = self.tracker.take_low_water_mark() {
            self.marks.send(mark).await.map_err(|_| NoTaker)?;
            self.last_checkpoint = Instant::now();
            self.done = 0;
        }
        Ok(())
    }
}

/// The task that takes marks has ended.
struct NoTaker;
