use std::collections::VecDeque;

use super::{
    AT_ONCE, Shared,
    state::{Taken, Ticket},
    worker::{Done, MOST},
};
use crate::{config::Config, event::RawChange};

/// Brings events of so many keys to lanes, which take them and are done with them at once; tells how many.
pub fn pass(changes: &[RawChange], keys: u64, lanes: usize) -> u64 {
    let shared = Shared::new(Config::default(), &[]);
    for some in changes.chunks(AT_ONCE) {
        {
            let mut state = shared.lock();
            for (change, key) in some.iter().zip((0..keys).cycle()) {
                let ticket = Ticket::Event(state.tracker.begin(change, 1));
                shared.add(&mut state, change, 0, key, ticket);
            }
        }
        loop {
            let taken = shared.lock().take(MOST, lanes);
            let Some(Taken::Events(works)) = taken else {
                break;
            };
            let done = works.into_iter().map(|work| Done {
                key: work.key,
                ticket: work.ticket,
            });
            shared.settle(done.collect(), VecDeque::new(), None);
        }
    }
    shared.lock().tracker.passed()
}
