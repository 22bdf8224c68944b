//! Which events are done, and up to where all of them are.

use std::{collections::VecDeque, time::SystemTime};

use crate::{event::RawChange, mutant, source::Mark};

/// Holds the contiguous low-water mark: the last place before which nothing is unfinished.
///
/// A slow event holds back the mark for those after it, though they are done.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Places not yet below the low-water mark, in stream order.
    entries: VecDeque<Entry>,
    /// The sequence number of the first of them.
    first: u64,
    /// Events that handlers have still to be done with.
    in_flight: usize,
    /// Events that no mark which was taken tells of.
    uncommitted: u64,
    /// What the events have that the mark has not passed.
    bytes: usize,
    low_water_mark: Option<Mark>,
    /// Events that the mark passed since it was last taken.
    passed: u64,
    newest: Option<SystemTime>,
}

#[derive(Debug)]
struct Entry {
    mark: Mark,
    /// How many handlers have still to be done with it.
    open: usize,
}

/// The place of an event in the order of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence(u64);

impl Tracker {
    /// Takes note of an event that the stream has come to and that so many handlers want.
    pub(crate) fn begin(&mut self, change: &RawChange, handlers: usize) -> Sequence {
        let sequence = self.first + self.entries.len() as u64;
        self.uncommitted += 1;
        self.bytes += change.size();
        let is_done = mutant::is_broken("commit_before_effect");
        let open = if is_done { 0 } else { handlers };
        self.in_flight += usize::from(open > 0);
        let mark = Mark::Event(change.clone());
        self.entries.push_back(Entry { mark, open });
        self.advance();
        Sequence(sequence)
    }

    /// Takes note of the end of a batch, which is done once all before it is.
    pub(crate) fn end_of_batch(&mut self, end: Mark) {
        if mutant::is_broken("post_batch_in_flight") {
            self.low_water_mark = Some(end);
            return;
        }
        let entry = Entry { mark: end, open: 0 };
        match self.entries.back_mut() {
            // Nothing but idle batches came since.
            Some(
                last @ Entry {
                    mark: Mark::Token(..),
                    ..
                },
            ) => *last = entry,
            _ => self.entries.push_back(entry),
        }
        self.advance();
    }

    /// Takes note that one handler is done with the event at `sequence`.
    pub(crate) fn done(&mut self, sequence: Sequence) {
        if mutant::is_broken("commit_before_effect") {
            return;
        }
        let index = sequence.0.checked_sub(self.first);
        let entry = index.and_then(|index| self.entries.get_mut(index as usize));
        let entry = entry.expect("an event is in flight while a handler has it");
        entry.open -= 1;
        self.in_flight -= usize::from(entry.open == 0);
        self.advance();
    }

    /// Moves the low-water mark as far as it can go.
    fn advance(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.open == 0) {
            let Some(Entry { mark, .. }) = self.entries.pop_front() else {
                return;
            };
            self.first += 1;
            if let Mark::Event(change) = &mark {
                self.bytes -= change.size();
                self.passed += 1;
                self.newest = change.wall_time();
            }
            self.low_water_mark = Some(mark);
        }
    }

    /// How many events are in flight: handlers have still to be done with them.
    pub(crate) fn events(&self) -> usize {
        self.in_flight
    }

    /// How many bytes the events have that are in flight, or done behind one that is.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events the low-water mark passed since it was last taken.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// How many events no mark that was taken tells of: those it passed since, those in flight, and those done behind these.
    pub(crate) fn uncommitted(&self) -> u64 {
        self.uncommitted
    }

    /// When the oldest event in flight was written, or, with none in flight, the last one that was.
    pub(crate) fn oldest(&self) -> Option<SystemTime> {
        let oldest = self.entries.iter().find_map(|entry| match &entry.mark {
            Mark::Event(change) => Some(change.wall_time()),
            Mark::Token(..) => None,
        });
        oldest.unwrap_or(self.newest)
    }

    /// Whether the low-water mark moved since it was last taken.
    pub(crate) fn has_low_water_mark(&self) -> bool {
        self.low_water_mark.is_some()
    }

    /// Takes the low-water mark, if it moved since it was last taken.
    pub(crate) fn take_low_water_mark(&mut self) -> Option<Mark> {
        self.uncommitted -= self.passed;
        self.passed = 0;
        self.low_water_mark.take()
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::{checkpoint::TokenKind, event::ResumeToken};

    fn event(name: &str) -> RawChange {
        let event = rawdoc! { "_id": { "_data": name }, "operationType": "insert" };
        RawChange::new(event.into_bytes()).expect("an event")
    }

    fn end(name: &str) -> Mark {
        let token = ResumeToken::new(rawdoc! { "_data": name });
        Mark::Token(token, TokenKind::StartAfter)
    }

    fn taken(tracker: &mut Tracker) -> Option<String> {
        let (token, _) = tracker.take_low_water_mark()?.token();
        token.as_raw().get_str("_data").map(str::to_owned).ok()
    }

    #[test]
    fn the_mark_never_passes_an_unfinished_event() {
        let mut tracker = Tracker::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| tracker.begin(&event(name), 1));
        tracker.done(c);
        tracker.done(b);
        assert_eq!(taken(&mut tracker), None);
        assert_eq!((tracker.events(), tracker.uncommitted()), (1, 3));
        tracker.done(a);
        assert_eq!((tracker.events(), tracker.uncommitted()), (0, 3));
        assert_eq!(tracker.passed(), 3);
        assert_eq!(taken(&mut tracker).as_deref(), Some("c"));
        assert_eq!((tracker.bytes(), tracker.passed()), (0, 0));
        assert_eq!(tracker.uncommitted(), 0);
    }

    #[test]
    fn an_event_is_done_when_all_its_handlers_are() {
        let mut tracker = Tracker::default();
        let event = tracker.begin(&event("event"), 2);
        tracker.done(event);
        assert_eq!(taken(&mut tracker), None);
        tracker.done(event);
        assert_eq!(taken(&mut tracker).as_deref(), Some("event"));
    }

    #[test]
    fn an_event_that_nobody_wants_waits_only_for_those_before_it() {
        let mut tracker = Tracker::default();
        let wanted = tracker.begin(&event("wanted"), 1);
        tracker.begin(&event("unwanted"), 0);
        assert_eq!(taken(&mut tracker), None);
        assert_eq!((tracker.events(), tracker.uncommitted()), (1, 2));
        tracker.done(wanted);
        assert_eq!(taken(&mut tracker).as_deref(), Some("unwanted"));
    }

    #[test]
    fn the_end_of_a_batch_waits_for_the_events_before_it() {
        let mut tracker = Tracker::default();
        let event = tracker.begin(&event("event"), 1);
        tracker.end_of_batch(end("end"));
        assert_eq!(taken(&mut tracker), None);
        tracker.done(event);
        assert_eq!(taken(&mut tracker).as_deref(), Some("end"));
    }

    #[test]
    fn idle_batches_behind_a_slow_event_take_one_place() {
        let mut tracker = Tracker::default();
        let event = tracker.begin(&event("event"), 1);
        (0..100).for_each(|n| tracker.end_of_batch(end(&n.to_string())));
        assert_eq!(tracker.entries.len(), 2);
        tracker.done(event);
        assert_eq!(taken(&mut tracker).as_deref(), Some("99"));
    }

    #[test]
    fn a_mark_is_taken_once() {
        let mut tracker = Tracker::default();
        tracker.end_of_batch(end("end"));
        assert_eq!(taken(&mut tracker).as_deref(), Some("end"));
        assert_eq!(taken(&mut tracker), None);
    }
}
