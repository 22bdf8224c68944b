use std::{
    hint::{black_box, spin_loop},
    time::{Duration, Instant},
};

use changestream::prelude::*;

use crate::{
    backlog::{Backlog, Item},
    comparison::{Comparison, Contestant, Target},
    driver,
    measure::Measure,
    sdk::{self, Handled, Seen},
};

const WORK: Duration = Duration::from_micros(10);

pub(crate) fn comparison(events: u64) -> Comparison {
    Comparison {
        name: "work".into(),
        about: "inserts of about 220 bytes, 10 us of work for each, one at a time".into(),
        receiver: None,
        backlog: Backlog::PLAIN,
        events,
        contestants: vec![
            Contestant::new("driver, typed", |job| {
                driver::drain(job, async |item: Item| {
                    black_box(item.quantity);
                    work();
                })
            }),
            Contestant::new("changestream, concurrency 1", |job| {
                sdk::drain(job, handlers![item_worked_on], |builder| {
                    builder.concurrency(1)
                })
            }),
        ],
        columns: vec![Measure::EventsPerSecond, Measure::ClientCpu],
        targets: vec![Target::rate(1.6)],
        plot: None,
    }
}

#[on_change(coll = "items", op = "insert")]
async fn item_worked_on(
    FullDocument(item): FullDocument<Item>,
    State(seen): State<Seen>,
) -> Handled {
    black_box(item.quantity);
    work();
    seen.one();
    Ok(())
}

fn work() {
    let begin = Instant::now();
    while begin.elapsed() < WORK {
        spin_loop();
    }
}
