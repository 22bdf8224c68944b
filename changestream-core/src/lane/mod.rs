//! Lanes: events of one key in order, keys side by side, as many at a time as the bounds allow. A handler of batches
//! has all its events in one order, and one batch of them under way.

mod buffer;
mod in_place;
#[cfg(any(fuzzing, test, feature = "testing"))]
mod pass;
mod state;
#[cfg(test)]
mod tests;
mod turn;
mod worker;

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use crate::{
    config::Config,
    engine::{Engine, Registered},
    event::RawChange,
    mutant,
    snapshot::Rows,
    tracker::Tracker,
};

pub(crate) use buffer::Receipt;
#[cfg(any(fuzzing, test, feature = "testing"))]
pub use pass::pass;
pub(crate) use turn::Turn;

use buffer::Buffer;
use in_place::InPlace;
use state::{State, Ticket, Waiting, Work};

/// How many events are brought to the lanes under one lock.
const AT_ONCE: usize = 64;

/// The lanes with their handlers. Dropped, they end where they are.
pub(crate) struct Lanes {
    engine: Engine,
    routed: Routed,
    shared: Arc<Shared>,
    /// One for each lane.
    workers: JoinSet<()>,
    /// The first lane, on which an event that comes alone is begun with.
    first: InPlace,
    /// An event came alone, and no lane was told of it.
    has_one: bool,
    aborts: Vec<AbortHandle>,
}

/// Dropped, it ends the lanes where they are, whoever has them.
pub(crate) struct Leash(Vec<AbortHandle>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// The handlers that events go to, each with the key of the event for it.
#[derive(Default)]
struct Routed {
    targets: Vec<(usize, u64)>,
    events: Vec<Route>,
}

struct Route {
    /// How many of the targets are its own, after those of the events before it.
    targets: usize,
    /// It has no key.
    is_alone: bool,
}

struct Shared {
    config: Config,
    /// How many rows of snapshots are on the lanes at most, but for urgent ones.
    room_for_rows: usize,
    /// Whether a handler takes batches, which are in no order with the events of others.
    has_batches: bool,
    state: Mutex<State>,
    /// There is work for a lane that has none.
    ready: Notify,
    /// What was waited for came to pass.
    progress: Notify,
    /// A batch waits for more.
    buffered: Notify,
}

impl Lanes {
    pub(crate) fn new(engine: Engine, config: Config) -> Self {
        let shared = Arc::new(Shared::new(config, &engine.handlers));
        let mut workers = JoinSet::new();
        let mut aborts = Vec::new();
        if shared.has_batches {
            aborts.push(workers.spawn(buffer::keep_time(Arc::clone(&shared))));
        }
        let mut spawn = || {
            let handlers = worker::Handlers::new(engine.handlers.clone());
            let (task, in_place) = in_place::drive(worker::work(Arc::clone(&shared), handlers));
            aborts.push(workers.spawn(task));
            in_place
        };
        let first = spawn();
        for _ in 1..config.concurrency {
            spawn();
        }
        Self {
            engine,
            routed: Routed::default(),
            shared,
            workers,
            first,
            has_one: false,
            aborts,
        }
    }

    /// For who hands the lanes over to a task: when that is aborted, it takes a moment for them to be dropped.
    pub(crate) fn leash(&self) -> Leash {
        Leash(self.aborts.clone())
    }

    /// Takes events in, as many as there is room for and the checkpoints keep up with; tells how many. To be followed by
    /// [`begin`](Self::begin).
    ///
    /// An event of no document, as a drop, has no room until all before it are done, and leaves none until it is.
    pub(crate) fn admit(&mut self, changes: &[RawChange]) -> usize {
        let mut admitted = 0;
        for some in changes.chunks(AT_ONCE) {
            // What finds no room is not routed in vain.
            if !self.shared.takes(&mut self.shared.lock(), &some[0], false) {
                break;
            }
            self.routed.clear();
            for change in some {
                self.route(change);
            }
            let taken = self.admit_routed(some);
            admitted += taken;
            if taken < some.len() {
                break;
            }
        }
        admitted
    }

    fn admit_routed(&mut self, changes: &[RawChange]) -> usize {
        let shared = &self.shared;
        let mut state = shared.lock();
        let is_only_one = changes.len() == 1 && state.has_none_in_flight();
        let mut targets = self.routed.targets.drain(..);
        let mut admitted = 0;
        for (change, route) in changes.iter().zip(&self.routed.events) {
            if !shared.takes(&mut state, change, route.is_alone) {
                break;
            }
            state.is_alone = route.is_alone;
            let sequence = state.tracker.begin(change, route.targets);
            for (handler, key) in targets.by_ref().take(route.targets) {
                let ticket = Ticket::Event(sequence);
                shared.add(&mut state, change, handler, key, ticket);
            }
            admitted += 1;
        }
        match is_only_one && state.has_ready() {
            true => self.has_one = true,
            false => shared.wake(&state),
        }
        admitted
    }

    /// Begins with an event that came alone where it is brought: to wake a lane for it takes longer than many a handler, and pays only
    /// where others come meanwhile.
    pub(crate) fn begin(&mut self) {
        if mem::take(&mut self.has_one) {
            self.first.step();
            self.shared.wake(&self.shared.lock());
        }
    }

    /// Takes a row of a snapshot in, if there is room beside the events, or it is urgent.
    pub(crate) fn admit_row(&mut self, row: &RawChange, in_flight: &Rows, is_urgent: bool) -> bool {
        {
            let mut state = self.shared.lock();
            let is_full = state.rows >= self.shared.room_for_rows;
            if state.is_alone || is_full && !is_urgent {
                state.has_more_rows = true;
                self.shared.begin_batches(&mut state);
                return false;
            }
        }
        self.routed.clear();
        self.route(row);
        let targets = &mut self.routed.targets;
        let mut state = self.shared.lock();
        state.rows += targets.len();
        in_flight.begin(targets.len());
        for (handler, key) in targets.drain(..) {
            let ticket = Ticket::Row(in_flight.clone());
            self.shared.add(&mut state, row, handler, key, ticket);
        }
        self.shared.wake(&state);
        true
    }

    /// Finds the handlers that an event goes to, and its key for each.
    fn route(&mut self, change: &RawChange) {
        let Engine {
            router,
            partition,
            handlers,
        } = &self.engine;
        let is_ours = |handler: &usize| {
            let path = handlers[*handler].key.path();
            partition.is_none_or(|partition| partition.has(change, path))
        };
        let in_stream_order = self.shared.config.concurrency == 1;
        let has_batches = self.shared.has_batches;
        let mut is_alone = false;
        let before = self.routed.targets.len();
        let routed = router.route(change).filter(is_ours);
        self.routed.targets.extend(routed.map(|handler| {
            // All of them are in one order: a batch may hold what would go alone.
            if handlers[handler].batch.is_some() {
                return (handler, 0);
            }
            if in_stream_order && !has_batches {
                return (handler, 0);
            }
            let key = match mutant::is_broken("random_lane") {
                true => Some(fastrand::u64(..)),
                false => handlers[handler].key.hash(change),
            };
            is_alone |= key.is_none();
            match in_stream_order {
                true => (handler, 0),
                false => (handler, key.unwrap_or(handler as u64)),
            }
        }));
        self.routed.events.push(Route {
            targets: self.routed.targets.len() - before,
            is_alone,
        });
    }

    /// Whether a checkpoint is to be saved before more events come.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        self.shared.lock().is_checkpoint_due(&self.shared.config)
    }

    /// Looks at the tracker.
    pub(crate) fn tracker<T>(&self, look: impl FnOnce(&mut Tracker) -> T) -> T {
        look(&mut self.shared.lock().tracker)
    }

    /// Waits until there is room again for an event that had none.
    ///
    /// # Panics
    ///
    /// When a lane panicked, as a store may make it.
    pub(crate) async fn progress(&mut self) {
        tokio::select! {
            () = self.shared.progress.notified() => {}
            Some(ended) = self.workers.join_next() => {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }

    /// Whether nothing is in flight; if something is, [`progress`](Self::progress) tells when it is done.
    pub(crate) fn is_idle(&self) -> bool {
        let mut state = self.shared.lock();
        let is_idle = state.is_idle();
        if !is_idle {
            self.shared.begin_batches(&mut state);
        }
        is_idle
    }
}

impl Shared {
    fn new(config: Config, handlers: &[Registered]) -> Self {
        let limits = || handlers.iter().map(|handler| handler.batch);
        let largest = limits().flatten().map(|limits| limits.max).max();
        let state = State {
            buffers: match largest {
                Some(_) => limits().map(|limits| limits.map(Buffer::new)).collect(),
                None => Vec::new(),
            },
            ..State::default()
        };
        Self {
            config,
            has_batches: largest.is_some(),
            room_for_rows: config.rows_in_flight().max(largest.unwrap_or(0)),
            state: Mutex::new(state),
            ready: Notify::new(),
            progress: Notify::new(),
            buffered: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an event can come to the lanes; if not, what can make room for it is begun.
    fn takes(&self, state: &mut State, change: &RawChange, is_alone: bool) -> bool {
        if state.is_checkpoint_due(&self.config) {
            return false;
        }
        let has_room = state.has_room_for(change, &self.config) && (!is_alone || state.is_idle());
        match has_room {
            true => state.waiting = Waiting::No,
            false => self.begin_batches(state),
        }
        has_room
    }

    /// Tells one lane of work, which tells the next where it leaves some.
    fn wake(&self, state: &State) {
        if state.has_ready() {
            self.ready.notify_one();
        }
    }

    fn add(&self, state: &mut State, change: &RawChange, handler: usize, key: u64, ticket: Ticket) {
        let work = Work {
            change: change.clone(),
            handler,
            key,
            ticket,
        };
        if let Some(buffer) = state.buffer(handler) {
            if buffer.push(work) {
                self.buffered.notify_one();
            }
            self.begin_batch_of(state, handler);
        } else {
            state.add(work);
        }
    }

    /// Begins the batches for which it is time.
    fn begin_batches(&self, state: &mut State) {
        for handler in 0..state.buffers.len() {
            self.begin_batch_of(state, handler);
        }
    }

    fn begin_batch_of(&self, state: &mut State, handler: usize) {
        if state.begin_batch_of(handler) {
            self.ready.notify_one();
        }
    }

    /// A handler is done with an event.
    fn done(&self, state: &mut State, ticket: Ticket) {
        match ticket {
            Ticket::Event(sequence) => state.tracker.done(sequence),
            Ticket::Row(rows) => {
                state.rows -= 1;
                rows.done();
            }
        }
        crate::crash_point!("event.done");
        if state.has_come(&self.config) {
            state.waiting = Waiting::No;
            self.progress.notify_one();
        }
        if state.have_rows_come(self.room_for_rows) {
            state.has_more_rows = false;
            self.progress.notify_one();
        }
    }
}

impl Routed {
    fn clear(&mut self) {
        self.targets.clear();
        self.events.clear();
    }
}
