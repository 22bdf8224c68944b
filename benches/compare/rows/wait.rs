use std::{hint::black_box, time::Duration};

use changestream::prelude::*;
use tokio::time::sleep;

use crate::{
    backlog::{Backlog, Item},
    comparison::{Comparison, Contestant, Target},
    driver,
    measure::Measure,
    sdk::{self, Handled, Seen},
};

const WAIT: Duration = Duration::from_millis(1);
/// What the driver's loop gets of the backlog, one in so many: it handles a few hundred in a second.
pub(crate) const SHARE: u64 = 50;

pub(crate) fn comparison(events: u64) -> Comparison {
    Comparison {
        name: "wait".into(),
        about:
            "inserts of about 220 bytes, 1 ms of waiting for each; the driver's loop has 1 of 50"
                .into(),
        receiver: None,
        backlog: Backlog::PLAIN,
        events,
        contestants: vec![
            driver_loop(),
            Contestant::new("changestream, 64 lanes", |job| {
                sdk::drain(job, handlers![item_waited_for], |builder| {
                    builder.concurrency(64)
                })
            }),
        ],
        columns: vec![Measure::EventsPerSecond, Measure::ClientCpu],
        targets: vec![Target::rate(45.0)],
        plot: None,
    }
}

pub(crate) fn driver_loop() -> Contestant {
    let run = |job| {
        driver::drain(job, async |item: Item| {
            black_box(item.quantity);
            sleep(WAIT).await;
        })
    };
    Contestant::new("driver, typed", run).share(SHARE)
}

#[on_change(coll = "items", op = "insert")]
pub(crate) async fn item_waited_for(
    FullDocument(item): FullDocument<Item>,
    State(seen): State<Seen>,
) -> Handled {
    black_box(item.quantity);
    sleep(WAIT).await;
    seen.one();
    Ok(())
}
