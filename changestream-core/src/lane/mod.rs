//! Lanes: events of one key in order, keys side by side, as many at a time as the bounds allow. A handler of batches
//! has all its events in one order, and one batch of them under way.

mod buffer;
mod state;
#[cfg(test)]
mod tests;
mod turn;

use std::{
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
    handler::{BatchItem, ChangeRequest},
    mutant,
    snapshot::Rows,
    tracker::Tracker,
};

pub(crate) use buffer::Receipt;
pub(crate) use turn::Turn;

use buffer::Buffer;
use state::{State, Taken, Ticket, Waiting, Work};

/// The lanes with their handlers. Dropped, they end where they are.
pub(crate) struct Lanes {
    engine: Engine,
    /// The handlers of the event at hand, each with its key.
    routed: Vec<(usize, u64)>,
    shared: Arc<Shared>,
    /// One for each lane.
    workers: JoinSet<()>,
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
        let limits = || engine.handlers.iter().map(|handler| handler.batch);
        let largest = limits().flatten().map(|limits| limits.max).max();
        let state = State {
            buffers: match largest {
                Some(_) => limits().map(|limits| limits.map(Buffer::new)).collect(),
                None => Vec::new(),
            },
            ..State::default()
        };
        let shared = Arc::new(Shared {
            config,
            has_batches: largest.is_some(),
            room_for_rows: config.rows_in_flight().max(largest.unwrap_or(0)),
            state: Mutex::new(state),
            ready: Notify::new(),
            progress: Notify::new(),
            buffered: Notify::new(),
        });
        let mut workers = JoinSet::new();
        if largest.is_some() {
            workers.spawn(buffer::keep_time(Arc::clone(&shared)));
        }
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
        {
            let mut state = self.shared.lock();
            if !state.has_room_for(change, &self.shared.config) {
                self.shared.begin_batches(&mut state);
                return false;
            }
            state.waiting = Waiting::No;
        }
        let is_alone = self.route(change);
        let mut state = self.shared.lock();
        if is_alone && !state.is_idle() {
            self.shared.begin_batches(&mut state);
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
        {
            let mut state = self.shared.lock();
            let is_full = state.rows >= self.shared.room_for_rows;
            if state.is_alone || is_full && !is_urgent {
                state.has_more_rows = true;
                self.shared.begin_batches(&mut state);
                return false;
            }
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
        let has_batches = self.shared.has_batches;
        let mut is_alone = false;
        self.routed.clear();
        let routed = router.route(change).filter(is_ours);
        self.routed.extend(routed.map(|handler| {
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
        let mut state = self.shared.lock();
        let is_idle = state.is_idle();
        if !is_idle {
            self.shared.begin_batches(&mut state);
        }
        is_idle
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work, and for a turn at it.
    async fn take(&self, lane: &Arc<Semaphore>) -> (Taken, Turn) {
        loop {
            match Arc::clone(lane).try_acquire_owned() {
                Ok(permit) => {
                    if let Some(taken) = self.lock().next_ready() {
                        return (taken, Turn::new(Arc::clone(lane), permit));
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
        } else if state.add(work) {
            self.ready.notify_one();
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

    fn finish(&self, finished: Finished) {
        match finished {
            Finished::One { key, ticket } => {
                crate::crash_point!("event.handled");
                let mut state = self.lock();
                self.done(&mut state, ticket);
                if let Some(next) = state.next_of(key) {
                    state.push_ready(next);
                    self.ready.notify_one();
                }
            }
            Finished::Batch(handler) => {
                let mut state = self.lock();
                if let Some(buffer) = state.buffer(handler) {
                    buffer.end();
                }
                self.begin_batch_of(&mut state, handler);
                self.buffered.notify_one();
            }
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

/// Works on a lane of its own.
async fn work(shared: Arc<Shared>, mut handlers: Vec<Registered>) {
    let lane = Arc::new(Semaphore::new(1));
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(finished) = calls.next(), if !calls.is_empty() => shared.finish(finished),
            (taken, turn) = shared.take(&lane) => {
                crate::crash_point!("event.begun");
                let (handler, request, finished) = match taken {
                    Taken::One(Work { change, handler, key, ticket }) => {
                        let name = Arc::clone(&handlers[handler].name);
                        let request = ChangeRequest::new(change, name, turn);
                        (handler, request, Finished::One { key, ticket })
                    }
                    Taken::Batch(handler, works) => {
                        let item = |Work { change, ticket, .. }| BatchItem {
                            change,
                            receipt: Receipt::new(&shared, ticket),
                        };
                        let items = works.into_iter().map(item).collect();
                        let name = Arc::clone(&handlers[handler].name);
                        let request = ChangeRequest::of_batch(items, name, turn);
                        let request = request.expect("a batch is begun where there are events");
                        (handler, request, Finished::Batch(handler))
                    }
                };
                let Ok(stack) = handlers[handler].stack.ready().await;
                let mut call = stack.call(request);
                // Most calls need not be kept for later.
                match futures::poll!(&mut call) {
                    Poll::Ready(_) => shared.finish(finished),
                    Poll::Pending => calls.push(call.map(move |_| finished)),
                }
            }
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// A call that is over.
enum Finished {
    One {
        key: u64,
        ticket: Ticket,
    },
    /// A batch of this handler, whose events are done already.
    Batch(usize),
}
