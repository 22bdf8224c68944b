//! What works on a lane.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};

use super::{
    Receipt, Shared, Turn,
    state::{Taken, Ticket, Work},
};
use crate::{
    engine::Registered,
    handler::{BatchItem, ChangeRequest},
    layer::HandlerStack,
};

/// The most that a lane takes at once.
pub(super) const MOST: usize = 32;

/// An event that a handler is done with.
pub(super) struct Done {
    pub(super) key: u64,
    pub(super) ticket: Ticket,
}

/// A call that is over.
enum Finished {
    One(Done),
    /// A batch of this handler, whose events are done already.
    Batch(usize),
}

type Call = <HandlerStack as Service<ChangeRequest>>::Future;

/// The handlers as a lane calls them, each made when it first does, and shared with no other lane.
pub(super) struct Handlers {
    registered: Vec<Registered>,
    called: Vec<Option<(Arc<str>, HandlerStack)>>,
}

impl Handlers {
    pub(super) fn new(registered: Vec<Registered>) -> Self {
        Self {
            called: registered.iter().map(|_| None).collect(),
            registered,
        }
    }

    /// The name and the stack of a handler.
    fn get(&mut self, handler: usize) -> &mut (Arc<str>, HandlerStack) {
        self.called[handler].get_or_insert_with(|| {
            let Registered { name, stacks, .. } = &self.registered[handler];
            (Arc::from(&**name), stacks.stack())
        })
    }
}

/// Works on a lane of its own.
pub(super) async fn work(shared: Arc<Shared>, mut handlers: Handlers) -> Infallible {
    let lane = Arc::new(Semaphore::new(1));
    let mut calls = FuturesUnordered::new();
    let mut most = 1;
    loop {
        tokio::select! {
            biased;
            Some(finished) = calls.next(), if !calls.is_empty() => shared.finish(finished),
            (taken, turn) = shared.take(&lane, most) => {
                let waiting = match taken {
                    Taken::Events(works) => begin(&shared, &mut handlers, works, turn).await,
                    Taken::Batch(handler, works) => {
                        begin_batch(&shared, &mut handlers, handler, works, turn).await
                    }
                };
                // Where calls wait, what was taken beside them would too.
                most = match waiting {
                    Some(_) => 1,
                    None => MOST.min(2 * most),
                };
                calls.extend(waiting.map(|(call, finished)| keep(call, finished)));
            }
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// Calls the handlers with one event after the other until a call waits; gives that.
async fn begin(
    shared: &Shared,
    handlers: &mut Handlers,
    mut works: VecDeque<Work>,
    mut turn: Turn,
) -> Option<(Call, Finished)> {
    let mut done = Vec::with_capacity(works.len());
    let mut waiting = None;
    while let Some(work) = works.pop_front() {
        crate::crash_point!("event.begun");
        let (name, stack) = handlers.get(work.handler);
        let request = ChangeRequest::new(work.change, Arc::clone(name), turn.clone());
        let Ok(stack) = stack.ready().await;
        let mut call = stack.call(request);
        let it = Done {
            key: work.key,
            ticket: work.ticket,
        };
        if futures::poll!(&mut call).is_pending() {
            waiting = Some((call, it));
            break;
        }
        crate::crash_point!("event.handled");
        done.push(it);
        drop(call);
        if !turn.begin_again() {
            break;
        }
        tokio::task::coop::consume_budget().await;
    }
    let under_way = waiting.as_ref().map(|(_, it)| it.key);
    shared.settle(done, works, under_way);
    waiting.map(|(call, it)| (call, Finished::One(it)))
}

/// Calls a handler with a batch; gives the call if it waits.
async fn begin_batch(
    shared: &Arc<Shared>,
    handlers: &mut Handlers,
    handler: usize,
    works: Vec<Work>,
    turn: Turn,
) -> Option<(Call, Finished)> {
    crate::crash_point!("event.begun");
    let item = |work: Work| BatchItem {
        change: work.change,
        receipt: Receipt::new(shared, work.ticket),
    };
    let items = works.into_iter().map(item).collect();
    let (name, stack) = handlers.get(handler);
    let request = ChangeRequest::of_batch(items, Arc::clone(name), turn);
    let request = request.expect("a batch is begun where there are events");
    let Ok(stack) = stack.ready().await;
    let mut call = stack.call(request);
    let finished = Finished::Batch(handler);
    match futures::poll!(&mut call) {
        Poll::Ready(_) => {
            shared.finish(finished);
            None
        }
        Poll::Pending => Some((call, finished)),
    }
}

/// A call that waits, and what it is to finish.
async fn keep(call: Call, finished: Finished) -> Finished {
    let Ok(_) = call.await;
    finished
}

impl Shared {
    /// Waits for work, and for a turn at it.
    async fn take(&self, lane: &Arc<Semaphore>, most: usize) -> (Taken, Turn) {
        loop {
            match Arc::clone(lane).try_acquire_owned() {
                Ok(permit) => {
                    let mut state = self.lock();
                    if let Some(taken) = state.take(most, self.config.concurrency) {
                        self.wake(&state);
                        return (taken, Turn::new(Arc::clone(lane), permit));
                    }
                }
                // Who was told of work and can't take it passes it on.
                Err(_taken) => self.wake(&self.lock()),
            }
            lane.acquire().await.ok();
            let mut told = pin!(self.ready.notified());
            told.as_mut().enable();
            // Who drives a lane in place tells it nothing.
            poll_fn(|context| {
                let is_told = told.as_mut().poll(context).is_ready();
                match is_told || self.lock().has_ready() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        }
    }

    /// Of what a lane took, some is done, in this order; then one of this key may be under way, and the rest was not begun.
    pub(super) fn settle(&self, done: Vec<Done>, rest: VecDeque<Work>, under_way: Option<u64>) {
        let mut state = self.lock();
        let begun_last = under_way.or_else(|| done.last().map(|done| done.key));
        state.give_back(rest, begun_last);
        let mut done = done.into_iter().peekable();
        while let Some(Done { key, ticket }) = done.next() {
            self.done(&mut state, ticket);
            let next = done.peek().map(|next| next.key);
            if next.or(under_way) != Some(key) {
                state.release(key);
            }
        }
        self.wake(&state);
    }

    fn finish(&self, finished: Finished) {
        let mut state = self.lock();
        match finished {
            Finished::One(Done { key, ticket }) => {
                crate::crash_point!("event.handled");
                self.done(&mut state, ticket);
                state.release(key);
                self.wake(&state);
            }
            Finished::Batch(handler) => {
                if let Some(buffer) = state.buffer(handler) {
                    buffer.end();
                }
                self.begin_batch_of(&mut state, handler);
                self.buffered.notify_one();
            }
        }
    }
}
