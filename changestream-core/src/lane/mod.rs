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
    sequence: Sequence,
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
            let change = change.clone();
            let is_ready = state.add(Work {
                change,
                handler,
                key,
                sequence,
            });
            if is_ready {
                self.shared.ready.notify_one();
            }
        }
        true
    }

    /// Finds the handlers that an event goes to, and its key for each. Tells whether it has none, and so goes alone.
    fn route(&mut self, change: &RawChange) -> bool {
        let Engine { router, handlers } = &self.engine;
        let in_stream_order = self.shared.config.concurrency == 1;
        let mut is_alone = false;
        self.routed.clear();
        self.routed.extend(router.route(change).map(|handler| {
            if in_stream_order {
                return (handler, 0);
            }
            let key = handlers[handler].key.hash(change);
            is_alone |= key.is_none();
            let key = match cfg!(changestream_mutant = "random_lane") {
                true => key.map(|_| fastrand::u64(..)),
                false => key,
            };
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
                    if let Some(work) = self.lock().ready.pop_front() {
                        return (work, Turn::new(Arc::clone(lane), permit));
                    }
                }
                // Who was told of work and can't take it passes it on.
                Err(_taken) if !self.lock().ready.is_empty() => self.ready.notify_one(),
                Err(_taken) => {}
            }
            lane.acquire().await.ok();
            let mut told = pin!(self.ready.notified());
            told.as_mut().enable();
            if self.lock().ready.is_empty() {
                told.await;
            }
        }
    }

    fn finish(&self, Done { key, sequence }: Done) {
        let mut state = self.lock();
        state.tracker.done(sequence);
        if let Some(next) = state.next_of(key) {
            state.ready.push_back(next);
            self.ready.notify_one();
        }
        if state.has_come(&self.config) {
            state.waiting = Waiting::No;
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
                let Work { change, handler, key, sequence } = work;
                let Registered { name, stack, .. } = &mut handlers[handler];
                let request = ChangeRequest::new(change, Arc::clone(name), turn);
                let Ok(stack) = stack.ready().await;
                let mut call = stack.call(request);
                let done = Done { key, sequence };
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
#[derive(Clone, Copy)]
struct Done {
    key: u64,
    sequence: Sequence,
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
        if events == 0 || has_room || cfg!(changestream_mutant = "unbounded") {
            return true;
        }
        self.waiting = Waiting::ForRoom;
        false
    }

    /// Whether nothing is in flight; if something is, its end is waited for.
    fn is_idle(&mut self) -> bool {
        let is_idle = self.tracker.events() == 0;
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
                self.ready.push_back(work);
                true
            }
        }
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
            Waiting::UntilIdle => is_due || tracker.events() == 0,
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
