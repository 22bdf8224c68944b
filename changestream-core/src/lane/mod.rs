//! Lanes: events of one key in order, keys side by side, as many at a time as the bounds allow.

mod turn;

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tower::{Service, ServiceExt};

use crate::{
    config::Config,
    engine::{Engine, Registered},
    event::RawChange,
    handler::ChangeRequest,
    mutant,
    snapshot::Rows,
    tracker::{Sequence, Tracker},
};

pub(crate) use turn::Turn;

/// The lanes with their handlers. Dropped, they end where they are.
pub(crate) struct Lanes {
    engine: Engine,
    /// The handlers of the event at hand, each with its key.
    routed: Vec<(usize, u64)>,
    shared: Arc<Shared>,
    /// One for each lane.
    workers: JoinSet<()>,
}

/// An event for one handler.
struct Work {
    change: RawChange,
    handler: usize,
    key: u64,
    ticket: Ticket,
}

/// Where it is noted that a handler is done.
enum Ticket {
    Event(Sequence),
    Row(Rows),
}

struct Shared {
    config: Config,
    state: Mutex<State>,
    /// There is work for a lane that has none.
    ready: Notify,
    /// What was waited for came to pass.
    progress: Notify,
}

#[derive(Default)]
struct State {
    tracker: Tracker,
    /// What no other event of its key is before.
    ready: VecDeque<Work>,
    /// The same of snapshots, for when no event is ready.
    ready_rows: VecDeque<Work>,
    /// How many rows handlers have still to be done with.
    rows: usize,
    /// There was no room for a row.
    has_more_rows: bool,
    /// For each key that has an event ready or under way, those behind it.
    keys: HashMap<u64, VecDeque<Work>>,
    /// The event in flight must be done before others come.
    is_alone: bool,
    waiting: Waiting,
}

/// What [`Lanes::progress`] tells of.
#[derive(Clone, Copy, Default, PartialEq)]
enum Waiting {
    #[default]
    No,
    ForRoom,
    UntilIdle,
}

impl Lanes {
    pub(crate) fn new(engine: Engine, config: Config) -> Self {
        let shared = Arc::new(Shared {
            config,
            state: Mutex::default(),
            ready: Notify::new(),
            progress: Notify::new(),
        });
        let mut workers = JoinSet::new();
        for _ in 0..config.concurrency {
            workers.spawn(work(Arc::clone(&shared), engine.handlers.clone()));
        }
        Self {
            engine,
            routed: Vec::new(),
            shared,
            workers,
        }
    }

    /// Takes an event in, if there is room.
    ///
    /// An event of no document, as a drop, has none until all before it are done, and leaves none until it is.
    pub(crate) fn admit(&mut self, change: &RawChange) -> bool {
        if !self.shared.lock().has_room_for(change, &self.shared.config) {
            return false;
        }
        let is_alone = self.route(change);
        let mut state = self.shared.lock();
        if is_alone && !state.is_idle() {
            return false;
        }
        state.is_alone = is_alone;
        let sequence = state.tracker.begin(change, self.routed.len());
        for (handler, key) in self.routed.drain(..) {
            let ticket = Ticket::Event(sequence);
            self.shared.add(&mut state, change, handler, key, ticket);
        }
        true
    }

    /// Takes a row of a snapshot in, if there is room beside the events, or it is urgent.
    pub(crate) fn admit_row(&mut self, row: &RawChange, in_flight: &Rows, is_urgent: bool) -> bool {
        let room = self.shared.config.rows_in_flight();
        let has_room = |state: &mut State| {
            let has_room = !state.is_alone && (is_urgent || state.rows < room);
            state.has_more_rows |= !has_room;
            has_room
        };
        if !has_room(&mut self.shared.lock()) {
            return false;
        }
        self.route(row);
        let mut state = self.shared.lock();
        state.rows += self.routed.len();
        in_flight.begin(self.routed.len());
        for (handler, key) in self.routed.drain(..) {
            let ticket = Ticket::Row(in_flight.clone());
            self.shared.add(&mut state, row, handler, key, ticket);
        }
        true
    }

    /// Finds the handlers that an event goes to, and its key for each. Tells whether it has none, and so goes alone.
    fn route(&mut self, change: &RawChange) -> bool {
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
        let mut is_alone = false;
        self.routed.clear();
        let routed = router.route(change).filter(is_ours);
        self.routed.extend(routed.map(|handler| {
            if in_stream_order {
                return (handler, 0);
            }
            let key = match mutant::is_broken("random_lane") {
                true => Some(fastrand::u64(..)),
                false => handlers[handler].key.hash(change),
            };
            is_alone |= key.is_none();
            (handler, key.unwrap_or(handler as u64))
        }));
        is_alone
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
        self.shared.lock().is_idle()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work, and for a turn at it.
    async fn take(&self, lane: &Arc<Semaphore>) -> (Work, Turn) {
        loop {
            match Arc::clone(lane).try_acquire_owned() {
                Ok(permit) => {
                    if let Some(work) = self.lock().next_ready() {
                        return (work, Turn::new(Arc::clone(lane), permit));
                    }
                }
                // Who was told of work and can't take it passes it on.
                Err(_taken) if self.lock().has_ready() => self.ready.notify_one(),
                Err(_taken) => {}
            }
            lane.acquire().await.ok();
            let mut told = pin!(self.ready.notified());
            told.as_mut().enable();
            if !self.lock().has_ready() {
                told.await;
            }
        }
    }

    fn add(&self, state: &mut State, change: &RawChange, handler: usize, key: u64, ticket: Ticket) {
        let is_ready = state.add(Work {
            change: change.clone(),
            handler,
            key,
            ticket,
        });
        if is_ready {
            self.ready.notify_one();
        }
    }

    fn finish(&self, Done { key, ticket }: Done) {
        crate::crash_point!("event.handled");
        let mut state = self.lock();
        match ticket {
            Ticket::Event(sequence) => state.tracker.done(sequence),
            Ticket::Row(rows) => {
                state.rows -= 1;
                rows.done();
            }
        }
        crate::crash_point!("event.done");
        if let Some(next) = state.next_of(key) {
            state.push_ready(next);
            self.ready.notify_one();
        }
        if state.has_come(&self.config) {
            state.waiting = Waiting::No;
            self.progress.notify_one();
        }
        if state.have_rows_come(&self.config) {
            state.has_more_rows = false;
            self.progress.notify_one();
        }
    }
}

/// Works on a lane of its own.
async fn work(shared: Arc<Shared>, mut handlers: Vec<Registered>) {
    let lane = Arc::new(Semaphore::new(1));
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(done) = calls.next(), if !calls.is_empty() => shared.finish(done),
            (work, turn) = shared.take(&lane) => {
                crate::crash_point!("event.begun");
                let Work { change, handler, key, ticket } = work;
                let Registered { name, stack, .. } = &mut handlers[handler];
                let request = ChangeRequest::new(change, Arc::clone(name), turn);
                let Ok(stack) = stack.ready().await;
                let mut call = stack.call(request);
                let done = Done { key, ticket };
                // Most calls need not be kept for later.
                match futures::poll!(&mut call) {
                    Poll::Ready(_) => shared.finish(done),
                    Poll::Pending => calls.push(call.map(move |_| done)),
                }
            }
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// What is done.
struct Done {
    key: u64,
    ticket: Ticket,
}

impl State {
    /// Whether there is room for `change`; if not, it is waited for.
    fn has_room_for(&mut self, change: &RawChange, config: &Config) -> bool {
        if self.is_alone {
            return self.is_idle();
        }
        let events = self.tracker.events();
        let has_room = events < config.in_flight_events
            && self.tracker.bytes() + change.size() <= config.in_flight_bytes;
        if events == 0 || has_room || mutant::is_broken("unbounded") {
            return true;
        }
        self.waiting = Waiting::ForRoom;
        false
    }

    /// Whether nothing is in flight; if something is, its end is waited for.
    fn is_idle(&mut self) -> bool {
        let is_idle = self.tracker.events() + self.rows == 0;
        if !is_idle {
            self.waiting = Waiting::UntilIdle;
        }
        is_idle
    }

    /// Whether no event of its key is before it.
    fn add(&mut self, work: Work) -> bool {
        match self.keys.get_mut(&work.key) {
            Some(behind) => {
                behind.push_back(work);
                false
            }
            None => {
                self.keys.insert(work.key, VecDeque::new());
                self.push_ready(work);
                true
            }
        }
    }

    fn push_ready(&mut self, work: Work) {
        match work.ticket {
            Ticket::Event(_) => self.ready.push_back(work),
            Ticket::Row(_) => self.ready_rows.push_back(work),
        }
    }

    /// Events go before rows.
    fn next_ready(&mut self) -> Option<Work> {
        self.ready
            .pop_front()
            .or_else(|| self.ready_rows.pop_front())
    }

    fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.ready_rows.is_empty()
    }

    /// Whether the one who has more rows can go on.
    fn have_rows_come(&self, config: &Config) -> bool {
        self.has_more_rows && self.rows <= config.rows_in_flight() / 2
    }

    /// Whether the one who waits can go on, be it only to save a checkpoint.
    fn has_come(&self, config: &Config) -> bool {
        let tracker = &self.tracker;
        let is_due = tracker.passed() >= config.checkpoint_events;
        match self.waiting {
            Waiting::No => false,
            // Not at each event's end: whoever waits has many to bring.
            Waiting::ForRoom => {
                is_due
                    || tracker.events() <= config.in_flight_events / 2
                        && tracker.bytes() <= config.in_flight_bytes / 2
            }
            Waiting::UntilIdle => is_due || tracker.events() + self.rows == 0,
        }
    }

    fn next_of(&mut self, key: u64) -> Option<Work> {
        let next = self.keys.get_mut(&key)?.pop_front();
        if next.is_none() {
            self.keys.remove(&key);
        }
        next
    }
}
