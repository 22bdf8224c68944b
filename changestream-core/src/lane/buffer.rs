use std::{collections::VecDeque, fmt, sync::Arc};

use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{
    Shared,
    state::{Ticket, Work},
};
use crate::handler::BatchLimits;

/// The events of a handler of batches that no batch has taken yet.
pub(super) struct Buffer {
    limits: BatchLimits,
    /// Each with when it came.
    waiting: VecDeque<(Instant, Work)>,
    /// How many of them are rows of snapshots.
    rows: usize,
    /// A batch is ready or under way. The next one is not before it is done.
    is_busy: bool,
}

impl Buffer {
    pub(super) fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            rows: 0,
            is_busy: false,
        }
    }

    /// Whether it is the first, from which the time counts.
    pub(super) fn push(&mut self, work: Work) -> bool {
        self.rows += usize::from(work.is_row());
        self.waiting.push_back((Instant::now(), work));
        self.waiting.len() == 1
    }

    /// Begins a batch where it is time for one, or all that can come is there.
    pub(super) fn begin_if_due(&mut self, is_all: bool) -> bool {
        let is_full = self.waiting.len() >= self.limits.max;
        let is_time = || self.due().is_some_and(|due| due <= Instant::now());
        let begins = !self.is_busy && !self.waiting.is_empty() && (is_full || is_all || is_time());
        self.is_busy |= begins;
        begins
    }

    /// Until when the first of them waits for others; `None` where it need not be watched.
    pub(super) fn due(&self) -> Option<Instant> {
        let (came, _) = self.waiting.front().filter(|_| !self.is_busy)?;
        came.checked_add(self.limits.within)
    }

    /// What a batch that has begun is of.
    pub(super) fn take(&mut self) -> Vec<Work> {
        let count = self.waiting.len().min(self.limits.max);
        let taken: Vec<_> = self.waiting.drain(..count).map(|(_, work)| work).collect();
        self.rows -= taken.iter().filter(|work| work.is_row()).count();
        taken
    }

    pub(super) fn end(&mut self) {
        self.is_busy = false;
    }

    pub(super) fn has_rows(&self) -> bool {
        self.rows > 0
    }
}

/// Begins the batches whose first event has waited long enough.
pub(super) async fn keep_time(shared: Arc<Shared>) {
    loop {
        let due = shared.lock().due();
        let due_now = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        select! {
            () = shared.buffered.notified() => {}
            () = due_now => {}
        }
        shared.begin_batches(&mut shared.lock());
    }
}

/// Tells that an event of a batch is done, once. An event that came over no lane, as in a test, tells nobody.
#[derive(Clone, Default)]
pub(crate) struct Receipt(Option<(Arc<Shared>, Ticket)>);

impl Receipt {
    pub(super) fn new(shared: &Arc<Shared>, ticket: Ticket) -> Self {
        Self(Some((Arc::clone(shared), ticket)))
    }

    pub(crate) fn done(self) {
        if let Some((shared, ticket)) = self.0 {
            crate::crash_point!("event.handled");
            shared.done(&mut shared.lock(), ticket);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}
