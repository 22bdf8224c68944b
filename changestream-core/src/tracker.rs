//! Which events are done, and up to where all of them are.

use std::collections::VecDeque;

use crate::source::Mark;

/// Holds the contiguous low-water mark: the last place before which nothing is unfinished.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Places passed and not yet below the low-water mark, in stream order.
    pending: VecDeque<Entry>,
    /// The sequence number of the first of them.
    first: u64,
    low_water_mark: Option<Mark>,
}

#[derive(Debug)]
struct Entry {
    mark: Mark,
    done: bool,
}

/// The place of an event in the order of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence(u64);

impl Tracker {
    /// Takes note of an event, or of the end of a batch, that the stream has come to.
    pub(crate) fn begin(&mut self, mark: Mark) -> Sequence {
        let sequence = self.first + self.pending.len() as u64;
        self.pending.push_back(Entry { mark, done: false });
        Sequence(sequence)
    }

    /// Takes note that everything at `sequence` is done, and moves the low-water mark as far as it can go.
    pub(crate) fn done(&mut self, sequence: Sequence) {
        let index = sequence.0.checked_sub(self.first);
        if let Some(entry) = index.and_then(|index| self.pending.get_mut(index as usize)) {
            entry.done = true;
        }
        while self.pending.front().is_some_and(|entry| entry.done) {
            self.low_water_mark = self.pending.pop_front().map(|entry| entry.mark);
            self.first += 1;
        }
    }

    /// Takes the low-water mark, if it moved since it was last taken.
    pub(crate) fn take_low_water_mark(&mut self) -> Option<Mark> {
        self.low_water_mark.take()
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::{checkpoint::TokenKind, event::ResumeToken};

    fn mark(name: &str) -> Mark {
        Mark::Token(
            ResumeToken::new(rawdoc! { "_data": name }),
            TokenKind::ResumeAfter,
        )
    }

    fn taken(tracker: &mut Tracker) -> Option<String> {
        let (token, _) = tracker.take_low_water_mark()?.token();
        token.as_raw().get_str("_data").map(str::to_owned).ok()
    }

    #[test]
    fn the_mark_never_passes_an_unfinished_event() {
        let mut tracker = Tracker::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| tracker.begin(mark(name)));
        tracker.done(c);
        tracker.done(b);
        assert_eq!(taken(&mut tracker), None);
        tracker.done(a);
        assert_eq!(taken(&mut tracker).as_deref(), Some("c"));
    }

    #[test]
    fn the_end_of_a_batch_waits_for_the_events_before_it() {
        let mut tracker = Tracker::default();
        let event = tracker.begin(mark("event"));
        let end = tracker.begin(mark("end"));
        tracker.done(end);
        assert_eq!(taken(&mut tracker), None);
        tracker.done(event);
        assert_eq!(taken(&mut tracker).as_deref(), Some("end"));
    }

    #[test]
    fn a_mark_is_taken_once() {
        let mut tracker = Tracker::default();
        let event = tracker.begin(mark("event"));
        tracker.done(event);
        tracker.done(event);
        assert_eq!(taken(&mut tracker).as_deref(), Some("event"));
        assert_eq!(taken(&mut tracker), None);
    }
}
