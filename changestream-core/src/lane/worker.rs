//! What works on a lane.

use std::{collections::VecDeque, pin::pin, sync::Arc, task::Poll};

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
};

/// The most that a lane takes at once.
const MOST: usize = 32;

/// An event that a handler is done with.
struct Done {
    key: u64,
    ticket: Ticket,
}

/// A call that is over.
enum Finished {
    One(Done),
    /// A batch of this handler, whose events are done already.
    Batch(usize),
}

/// Works on a lane of its own.
pub(super) async fn work(shared: Arc<Shared>, mut handlers: Vec<Registered>) {
    let lane = Arc::new(Semaphore::new(1));
    let mut calls = FuturesUnordered::new();
    // Where calls wait, what was taken besides waits too: then it is one at a time.
    let mut most = 1;
    loop {
        tokio::select! {
            biased;
            Some(finished) = calls.next(), if !calls.is_empty() => shared.finish(finished),
            (taken, mut turn) = shared.take(&lane, most) => match taken {
                Taken::Some(mut works) => {
                    let (mut begun, mut pending) = (0, None);
                    let mut done = Vec::with_capacity(works.len());
                    most = MOST.min(2 * most);
                    while let Some(Work { change, handler, key, ticket }) = works.pop_front() {
                        crate::crash_point!("event.begun");
                        begun = key;
                        let Registered { name, stack, .. } = &mut handlers[handler];
                        let request = ChangeRequest::new(change, Arc::clone(name), turn.clone());
                        let Ok(stack) = stack.ready().await;
                        let mut call = stack.call(request);
                        // Most calls need not be kept for later.
                        if futures::poll!(&mut call).is_pending() {
                            let finished = Finished::One(Done { key, ticket });
                            calls.push(keep(call, finished));
                            (pending, most) = (Some(key), 1);
                            break;
                        }
                        crate::crash_point!("event.handled");
                        done.push(Done { key, ticket });
                        drop(call);
                        if !turn.begin_again() {
                            break;
                        }
                        tokio::task::coop::consume_budget().await;
                    }
                    shared.settle(done, works, begun, pending);
                }
                Taken::Batch(handler, works) => {
                    crate::crash_point!("event.begun");
                    let item = |Work { change, ticket, .. }| BatchItem {
                        change,
                        receipt: Receipt::new(&shared, ticket),
                    };
                    let items = works.into_iter().map(item).collect();
                    let Registered { name, stack, .. } = &mut handlers[handler];
                    let request = ChangeRequest::of_batch(items, Arc::clone(name), turn);
                    let request = request.expect("a batch is begun where there are events");
                    let Ok(stack) = stack.ready().await;
                    let mut call = stack.call(request);
                    let finished = Finished::Batch(handler);
                    match futures::poll!(&mut call) {
                        Poll::Ready(_) => shared.finish(finished),
                        Poll::Pending => calls.push(keep(call, finished)),
                    }
                }
            }
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// A call that waits, and what it is to finish.
async fn keep(call: impl Future, finished: Finished) -> Finished {
    call.await;
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
            if !self.lock().has_ready() {
                told.await;
            }
        }
    }

    /// Of what a lane took, some is done, in this order, one may be under way, and the rest was not begun.
    fn settle(&self, done: Vec<Done>, rest: VecDeque<Work>, begun: u64, under_way: Option<u64>) {
        let mut state = self.lock();
        state.give_back(rest, begun);
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
            }
            Finished::Batch(handler) => {
                if let Some(buffer) = state.buffer(handler) {
                    buffer.end();
                }
                self.begin_batch_of(&mut state, handler);
                self.buffered.notify_one();
            }
        }
        self.wake(&state);
    }
}
