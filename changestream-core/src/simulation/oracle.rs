use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

use super::world::{Key, SINK_CONCURRENCY, SINKS, World, position};
use crate::{DeadLetter, Error, ResumeToken, running::LAST_SAVE};

/// What an attempt is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Handler,
    Sink(usize),
}

impl Part {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Handler => 0,
            Self::Sink(sink) => 1 + sink as u32,
        }
    }
}

/// Knows what is really done, and holds the engine to its guarantees.
pub(super) struct Oracle {
    world: Arc<World>,
    began: Instant,
    state: Mutex<State>,
    progress: Notify,
}

/// What came of a world.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) history: Vec<(Duration, Happening)>,
    pub(super) violation: Option<String>,
}

/// Something that happened; events and handlers by their place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Happening {
    Life { number: u32, from: u32 },
    Begun(usize, usize, Part),
    Succeeded(usize, usize, Part),
    DeadLettered(usize, usize, Part),
    Saved(u32),
    Stop,
    End(&'static str),
}

#[derive(Default)]
struct State {
    life: u32,
    /// By event and handler, over all lives and in this one.
    ever: Vec<Vec<Progress>>,
    now: Vec<Vec<Progress>>,
    /// The first event of this life that is not done.
    low: usize,
    /// Begun in this life and not done.
    open: Vec<(usize, usize)>,
    /// The last event of each key.
    last: HashMap<(usize, Key), usize>,
    /// The last event and handler in this life.
    latest: Option<(usize, usize)>,
    /// Attempts under way in this life.
    active: Vec<Call>,
    saved: u32,
    stopped: Option<Instant>,
    history: Vec<(Duration, Happening)>,
    violation: Option<String>,
}

/// How far a handler is with an event.
#[derive(Clone, Copy, Default)]
struct Progress {
    is_handled: bool,
    is_delivered: [bool; SINKS.len()],
    is_dead_lettered: bool,
}

impl Progress {
    fn finish(&mut self, part: Part) {
        match part {
            Part::Handler => self.is_handled = true,
            Part::Sink(sink) => self.is_delivered[sink] = true,
        }
    }

    fn has(&self, part: Part) -> bool {
        match part {
            Part::Handler => self.is_handled || self.is_dead_lettered,
            Part::Sink(sink) => self.is_delivered[sink],
        }
    }

    fn is_done(&self, sinks: &[usize]) -> bool {
        self.is_dead_lettered
            || self.is_handled && sinks.iter().all(|sink| self.is_delivered[*sink])
    }
}

impl Oracle {
    pub(super) fn new(world: Arc<World>) -> Self {
        let none = vec![vec![Progress::default(); world.handlers.len()]; world.events.len()];
        let state = State {
            ever: none.clone(),
            now: none,
            ..State::default()
        };
        Self {
            world,
            began: Instant::now(),
            state: Mutex::new(state),
            progress: Notify::new(),
        }
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn event_at(&self, token: &ResumeToken) -> usize {
        let position = position(token);
        let events = &self.world.events;
        let found = events.binary_search_by_key(&position, |event| event.position);
        found.expect("an event of this world")
    }

    pub(super) fn verdict(&self) -> Verdict {
        let mut state = self.lock();
        let mut violation = state.violation.take();
        if let Some(violation) = &mut violation {
            let history = state.history.iter();
            let lines = history.map(|(at, what)| format!("\n{:>10.3} {what:?}", at.as_secs_f64()));
            violation.extend(lines);
            violation.push_str(&format!("\n{:#?}", self.world.config));
        }
        Verdict {
            history: std::mem::take(&mut state.history),
            violation,
        }
    }

    /// Waits until all is done, or something went wrong.
    pub(super) async fn all_done(&self) {
        while !self.lock().is_over(&self.world) {
            self.progress.notified().await;
        }
    }

    pub(super) fn life_begins(&self, life: u32, from: u32) {
        let mut state = self.lock();
        state.note(self, Happening::Life { number: life, from });
        if from < state.saved {
            state.violate(format!(
                "life {life} begins at {from}, before the checkpoint"
            ));
        }
        let events = &self.world.events;
        let none = vec![vec![Progress::default(); self.world.handlers.len()]; events.len()];
        *state = State {
            life,
            now: none,
            low: events.partition_point(|event| event.position <= from),
            ever: std::mem::take(&mut state.ever),
            saved: state.saved,
            history: std::mem::take(&mut state.history),
            violation: state.violation.take(),
            ..State::default()
        };
        state.advance(&self.world);
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.note(self, Happening::Stop);
        state.stopped = Some(Instant::now());
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        life: u32,
        event: usize,
        handler: usize,
        part: Part,
    ) -> Active {
        let mut state = self.lock();
        state.note(self, Happening::Begun(event, handler, part));
        if let Err(violation) = state.begin(&self.world, event, handler, part) {
            state.violate(violation);
        }
        Active {
            oracle: Arc::clone(self),
            life,
            call: (event, handler, part),
        }
    }

    pub(super) fn begin_batch(
        self: &Arc<Self>,
        life: u32,
        events: &[usize],
        handler: usize,
    ) -> Vec<Active> {
        let others = {
            let state = self.lock();
            let of_handler = state.open.iter().filter(|(_, open)| *open == handler);
            of_handler
                .filter(|(event, _)| !events.contains(event))
                .count()
        };
        if others > 0 {
            let first = events[0];
            let violation =
                format!("the batch at event {first} does not wait for the one before it");
            self.lock().violate(violation);
        }
        let begin = |event: &usize| self.begin(life, *event, handler, Part::Handler);
        events.iter().map(begin).collect()
    }

    pub(super) fn succeeded(&self, event: usize, handler: usize, part: Part) {
        let mut state = self.lock();
        state.note(self, Happening::Succeeded(event, handler, part));
        state.update(&self.world, event, handler, |progress| {
            progress.finish(part)
        });
        self.progress.notify_one();
    }

    pub(super) fn dead_lettered(&self, letter: &DeadLetter) {
        let event = self.event_at(&ResumeToken::from(letter.token()));
        let handlers = &mut self.world.handlers.iter();
        let handler = handlers.position(|handler| handler.name == letter.handler());
        let handler = handler.expect("a handler of this world");
        let sink = letter
            .sink()
            .and_then(|sink| SINKS.iter().position(|name| *name == sink));
        let part = sink.map_or(Part::Handler, Part::Sink);
        let mut state = self.lock();
        state.note(self, Happening::DeadLettered(event, handler, part));
        state.update(&self.world, event, handler, |progress| match part {
            Part::Handler => progress.is_dead_lettered = true,
            sink => progress.finish(sink),
        });
        self.progress.notify_one();
    }

    pub(super) fn saved(&self, position: u32) {
        let mut state = self.lock();
        state.note(self, Happening::Saved(position));
        let low = self.world.events.get(state.low);
        if low.is_some_and(|event| event.position <= position) {
            let low = state.low;
            state.violate(format!(
                "the checkpoint passes event {low}, which is unfinished"
            ));
        }
        if position < state.saved {
            state.violate("the checkpoint goes backwards");
        }
        state.saved = position;
    }

    /// The life was ended from outside.
    pub(super) fn crashed(&self) {
        let mut state = self.lock();
        state.note(self, Happening::End("crash"));
        let config = &self.world.config;
        // One checkpoint is being saved, one waits for that, one is due.
        let bound = 3 * config.uncommitted_events();
        let again = state.begun_after_checkpoint(&self.world);
        if again as u64 > bound {
            state.violate(format!("{again} events come again; at most {bound} may"));
        }
    }

    /// The life ended itself.
    pub(super) fn ended(&self, result: &Result<(), Error>) {
        let mut state = self.lock();
        let ending = if result.is_ok() {
            "clean"
        } else {
            "unfinished"
        };
        state.note(self, Happening::End(ending));
        let Some(stopped) = state.stopped else {
            return state.violate(format!("it ended unasked: {result:?}"));
        };
        let took = stopped.elapsed();
        let deadline = self.world.config.drain_deadline;
        if took > deadline + LAST_SAVE + Duration::from_millis(10) {
            state.violate(format!("the shutdown took {took:?}"));
        }
        match result {
            Ok(()) if state.begun_after_checkpoint(&self.world) > 0 => {
                state.violate("events come again after a clean shutdown");
            }
            Ok(()) => {}
            Err(error) if error.is_drain_deadline() && took >= deadline => {}
            Err(error) => state.violate(format!("after {took:?}: {error}")),
        }
    }

    /// The world took longer than anything in it can.
    pub(super) fn hangs(&self) {
        self.lock().violate("it hangs");
    }
}

impl State {
    fn note(&mut self, oracle: &Oracle, what: Happening) {
        self.history.push((oracle.began.elapsed(), what));
    }

    /// The first one counts.
    fn violate(&mut self, violation: impl Into<String>) {
        self.violation.get_or_insert(violation.into());
    }

    fn is_over(&self, world: &World) -> bool {
        let is_done = |progress: &Vec<Vec<Progress>>, event| is_done(world, progress, event);
        self.violation.is_some() || (0..world.events.len()).all(|event| is_done(&self.ever, event))
    }

    fn begin(
        &mut self,
        world: &World,
        event: usize,
        handler: usize,
        part: Part,
    ) -> Result<(), String> {
        let what = format!("event {event} in handler {handler}, {part:?}");
        let wanted = &world.events[event].wanted;
        let Some((_, key)) = wanted.iter().find(|(wanting, _)| *wanting == handler) else {
            return Err(format!("{what}: not wanted"));
        };
        if self.now[event][handler].has(part) || event < self.low {
            return Err(format!("{what}: once more after it was done"));
        }
        self.active.push((event, handler, part));
        if !self.open.contains(&(event, handler)) {
            self.check_order(world, event, handler, *key)
                .map_err(|rule| format!("{what}: {rule}"))?;
            self.open.push((event, handler));
        }
        let config = &world.config;
        let is_batch = |handler: usize| world.handlers[handler].batch.is_some();
        let of_part = self.active.iter().filter(|call| call.2 == part);
        let mut calls: Vec<_> = of_part
            .map(|(event, handler, _)| match is_batch(*handler) {
                true => (usize::MAX, *handler),
                false => (*event, *handler),
            })
            .collect();
        calls.sort_unstable();
        calls.dedup();
        let most = match part {
            Part::Handler => config.concurrency,
            Part::Sink(_) => SINK_CONCURRENCY,
        };
        if calls.len() > most {
            return Err(format!("{what}: {} calls at a time", calls.len()));
        }
        let held = &world.events[self.low..=event];
        let bytes: usize = held.iter().map(|event| event.change.size()).sum();
        if held.len() > 1 && bytes > config.in_flight_bytes {
            return Err(format!("{what}: {bytes} bytes in flight"));
        }
        let is_in_flight = |event: &usize| !is_done(world, &self.now, *event);
        let in_flight = (self.low..=event).filter(is_in_flight).count();
        if in_flight > config.in_flight_events {
            return Err(format!("{what}: {in_flight} events in flight"));
        }
        if held.len() as u64 > config.uncommitted_events() {
            let done = held.len() - in_flight;
            return Err(format!("{what}: {done} events done behind one in flight"));
        }
        Ok(())
    }

    fn check_order(
        &mut self,
        world: &World,
        event: usize,
        handler: usize,
        key: Option<Key>,
    ) -> Result<(), &'static str> {
        let is_batch = |handler: usize| world.handlers[handler].batch.is_some();
        // Of a handler of batches, only its own events are in an order.
        if world.config.concurrency == 1 && !is_batch(handler) {
            let is_next = self.latest.is_none_or(|latest| latest < (event, handler));
            if self.open.iter().any(|(_, open)| !is_batch(*open)) || !is_next {
                return Err("not in the order of the stream");
            }
        }
        if !is_batch(handler) {
            self.latest = Some((event, handler));
        }
        let has_no_key =
            |event: &super::world::Event| event.wanted.iter().any(|(_, key)| key.is_none());
        let Some(key) = key else {
            return match event == self.low {
                true => Ok(()),
                false => Err("has no key, and does not wait for those before it"),
            };
        };
        if world.events[self.low..event].iter().any(has_no_key) {
            return Err("does not wait for the event without a key before it");
        }
        let before = self.last.insert((handler, key), event);
        match before {
            Some(before) if before >= event => Err("not in the order of its key"),
            Some(before) if !is_batch(handler) && self.open.contains(&(before, handler)) => {
                Err("does not wait for the event of its key before it")
            }
            _ => Ok(()),
        }
    }

    fn update(
        &mut self,
        world: &World,
        event: usize,
        handler: usize,
        change: impl Fn(&mut Progress),
    ) {
        change(&mut self.ever[event][handler]);
        change(&mut self.now[event][handler]);
        if self.now[event][handler].is_done(&world.handlers[handler].sinks) {
            self.open.retain(|open| *open != (event, handler));
            self.advance(world);
        }
    }

    fn advance(&mut self, world: &World) {
        while self.low < world.events.len() && is_done(world, &self.now, self.low) {
            self.low += 1;
        }
    }

    /// How many events have begun in this life that the next one begins again.
    fn begun_after_checkpoint(&self, world: &World) -> usize {
        let events = world.events.iter().enumerate();
        let again = events.filter(|(index, event)| {
            let has_begun = |(handler, _): &(usize, _)| {
                self.now[*index][*handler].has(Part::Handler)
                    || self.open.contains(&(*index, *handler))
            };
            event.position > self.saved && event.wanted.iter().any(has_begun)
        });
        again.count()
    }
}

fn is_done(world: &World, progress: &[Vec<Progress>], event: usize) -> bool {
    let mut wanted = world.events[event].wanted.iter();
    wanted.all(|(handler, _)| progress[event][*handler].is_done(&world.handlers[*handler].sinks))
}

/// An attempt under way.
pub(super) struct Active {
    oracle: Arc<Oracle>,
    life: u32,
    call: Call,
}

/// Event, handler and what of it.
type Call = (usize, usize, Part);

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = self.oracle.lock();
        if state.life == self.life
            && let Some(index) = state.active.iter().position(|call| *call == self.call)
        {
            state.active.swap_remove(index);
        }
    }
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oracle").finish_non_exhaustive()
    }
}
