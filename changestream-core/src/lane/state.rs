use std::collections::{VecDeque, hash_map::Entry};

use ahash::HashMap;
use tokio::time::Instant;

use super::buffer::Buffer;
use crate::{
    config::Config,
    event::RawChange,
    mutant,
    snapshot::Rows,
    tracker::{Sequence, Tracker},
};

/// An event for one handler.
pub(super) struct Work {
    pub(super) change: RawChange,
    pub(super) handler: usize,
    pub(super) key: u64,
    pub(super) ticket: Ticket,
}

impl Work {
    pub(super) fn is_row(&self) -> bool {
        matches!(self.ticket, Ticket::Row(_))
    }
}

/// What a lane can take.
pub(super) enum Ready {
    One(Work),
    /// What the buffer of this handler has when it is taken.
    Batch(usize),
}

/// What a lane has taken.
pub(super) enum Taken {
    /// Events of several keys. Those of one key are next to each other, and one is begun when that before it is done.
    Events(VecDeque<Work>),
    Batch(usize, Vec<Work>),
}

/// Where it is noted that a handler is done.
#[derive(Clone)]
pub(super) enum Ticket {
    Event(Sequence),
    Row(Rows),
}

#[derive(Default)]
pub(super) struct State {
    pub(super) tracker: Tracker,
    /// What no other event of its key is before.
    pub(super) ready: VecDeque<Ready>,
    /// The same of snapshots, for when no event is ready.
    pub(super) ready_rows: VecDeque<Work>,
    /// How many rows handlers have still to be done with.
    pub(super) rows: usize,
    /// There was no room for a row.
    pub(super) has_more_rows: bool,
    /// For each key that has an event ready or under way, those behind it.
    pub(super) keys: HashMap<u64, VecDeque<Work>>,
    /// By handler, for those that take batches; empty where none does.
    pub(super) buffers: Vec<Option<Buffer>>,
    /// The event in flight must be done before others come.
    pub(super) is_alone: bool,
    pub(super) waiting: Waiting,
}

/// What [`Lanes::progress`] tells of.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Waiting {
    #[default]
    No,
    ForRoom,
    UntilIdle,
}

impl State {
    /// Whether there is room for `change`; if not, it is waited for.
    pub(super) fn has_room_for(&mut self, change: &RawChange, config: &Config) -> bool {
        if self.is_alone {
            return self.is_idle();
        }
        let events = self.tracker.events();
        let has_room = events < config.in_flight_events
            && self.tracker.uncommitted() < config.uncommitted_events()
            && self.tracker.bytes() + change.size() <= config.in_flight_bytes;
        if events == 0 || has_room || mutant::is_broken("unbounded") {
            return true;
        }
        self.waiting = Waiting::ForRoom;
        false
    }

    pub(super) fn has_none_in_flight(&self) -> bool {
        self.tracker.events() + self.rows == 0
    }

    /// Whether nothing is in flight; if something is, its end is waited for.
    pub(super) fn is_idle(&mut self) -> bool {
        let is_idle = self.has_none_in_flight();
        if !is_idle {
            self.waiting = Waiting::UntilIdle;
        }
        is_idle
    }

    /// What waits for the next batch of a handler, where it takes batches.
    pub(super) fn buffer(&mut self, handler: usize) -> Option<&mut Buffer> {
        self.buffers.get_mut(handler)?.as_mut()
    }

    /// Whether a batch of this handler is ready that was not before.
    pub(super) fn begin_batch_of(&mut self, handler: usize) -> bool {
        let is_full = self.is_alone || self.waiting != Waiting::No;
        let has_more_rows = self.has_more_rows;
        let Some(buffer) = self.buffer(handler) else {
            return false;
        };
        let is_all = is_full || has_more_rows && buffer.has_rows();
        let begins = buffer.begin_if_due(is_all);
        if begins {
            self.ready.push_back(Ready::Batch(handler));
        }
        begins
    }

    /// When the next batch is to begin for which the time is set.
    pub(super) fn due(&self) -> Option<Instant> {
        self.buffers.iter().flatten().filter_map(Buffer::due).min()
    }

    pub(super) fn add(&mut self, work: Work) {
        match self.keys.entry(work.key) {
            Entry::Occupied(behind) => behind.into_mut().push_back(work),
            Entry::Vacant(key) => {
                key.insert(VecDeque::new());
                self.push_ready(work);
            }
        }
    }

    pub(super) fn push_ready(&mut self, work: Work) {
        match work.ticket {
            Ticket::Event(_) => self.ready.push_back(Ready::One(work)),
            Ticket::Row(_) => self.ready_rows.push_back(work),
        }
    }

    /// What a lane takes of what is ready: its share, and no more than `most`. Events go before rows.
    pub(super) fn take(&mut self, most: usize, lanes: usize) -> Option<Taken> {
        let ready = self.ready.len().max(self.ready_rows.len());
        let share = (ready / lanes).clamp(1, most);
        let mut taken = VecDeque::new();
        for _ in 0..share {
            match self.next_ready(taken.is_empty()) {
                Some(Ready::One(work)) => self.take_with_followers(work, most, &mut taken),
                Some(Ready::Batch(handler)) => {
                    let works = self.buffer(handler)?.take();
                    return Some(Taken::Batch(handler, works));
                }
                None => break,
            }
        }
        (!taken.is_empty()).then_some(Taken::Events(taken))
    }

    /// The next that is ready; where some were taken already, only if it is of their kind.
    fn next_ready(&mut self, is_first: bool) -> Option<Ready> {
        match self.ready.front() {
            Some(Ready::One(_)) => self.ready.pop_front(),
            Some(Ready::Batch(_)) if is_first => self.ready.pop_front(),
            Some(Ready::Batch(_)) => None,
            None => self.ready_rows.pop_front().map(Ready::One),
        }
    }

    /// Takes an event, and those of its key that are behind it.
    fn take_with_followers(&mut self, work: Work, most: usize, taken: &mut VecDeque<Work>) {
        let room = most.saturating_sub(taken.len() + 1);
        let behind = self.keys.get_mut(&work.key);
        taken.push_back(work);
        if let Some(behind) = behind {
            taken.extend(behind.drain(..room.min(behind.len())));
        }
    }

    /// Takes back what a lane has taken and not begun. `begun_last` is the key of what it began last.
    pub(super) fn give_back(&mut self, mut works: VecDeque<Work>, begun_last: Option<u64>) {
        while let Some(work) = works.pop_back() {
            let before = works.back().map(|before| before.key).or(begun_last);
            match (before == Some(work.key), &work.ticket) {
                (true, _) => self.keys.entry(work.key).or_default().push_front(work),
                (false, Ticket::Event(_)) => self.ready.push_front(Ready::One(work)),
                (false, Ticket::Row(_)) => self.ready_rows.push_front(work),
            }
        }
    }

    /// Lets the next event of this key come, if there is one.
    pub(super) fn release(&mut self, key: u64) {
        let Entry::Occupied(mut behind) = self.keys.entry(key) else {
            return;
        };
        match behind.get_mut().pop_front() {
            Some(next) => self.push_ready(next),
            None => {
                behind.remove();
            }
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.ready_rows.is_empty()
    }

    /// Whether the one who has more rows can go on.
    pub(super) fn have_rows_come(&self, room: usize) -> bool {
        self.has_more_rows && self.rows <= room / 2
    }

    /// Whether a checkpoint is to be saved before more events come.
    pub(super) fn is_checkpoint_due(&self, config: &Config) -> bool {
        let passed = self.tracker.passed();
        let is_full = self.tracker.uncommitted() >= config.uncommitted_events();
        passed >= config.checkpoint_events || passed > 0 && is_full
    }

    /// Whether the one who waits can go on, be it only to save a checkpoint.
    pub(super) fn has_come(&self, config: &Config) -> bool {
        let tracker = &self.tracker;
        let is_due = self.is_checkpoint_due(config);
        match self.waiting {
            Waiting::No => false,
            // Not at each event's end: whoever waits has many to bring.
            Waiting::ForRoom => {
                is_due
                    || tracker.events() <= config.in_flight_events / 2
                        && tracker.uncommitted() < config.uncommitted_events()
                        && tracker.bytes() <= config.in_flight_bytes / 2
            }
            Waiting::UntilIdle => is_due || self.has_none_in_flight(),
        }
    }
}
