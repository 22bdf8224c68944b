//! The same contestants where they are most of the time: caught up.

use std::sync::{Arc, Mutex, PoisonError};

use changestream::prelude::*;

use super::{PEERS, cache};
use crate::{
    Figures, Result,
    backlog::Backlog,
    comparison::{Comparison, Contestant, Job},
    driver,
    live::{Ages, Timed},
    measure::{Measure, Meter},
    sdk::{self, Handled, Seen},
};

const LEAST: u64 = 1_000;

pub(crate) fn comparison(events: u64) -> Result<Comparison> {
    let cache = &cache()?;
    let mut contestants = vec![
        Contestant::new("driver, typed", with_driver),
        Contestant::new("changestream", with_changestream),
    ];
    let mut about =
        "from the write to the handler, while another process inserts 200 documents in a second; \
                     the first half of the events warms up"
            .to_owned();
    for peer in PEERS {
        contestants.extend(peer.contestant(cache, &mut about));
    }
    Ok(Comparison {
        name: "peers-latency".into(),
        about,
        receiver: None,
        backlog: Backlog::Live,
        // Fewer may have come before the slowest of them is up.
        events: (events / 200).max(LEAST),
        contestants,
        columns: vec![Measure::FromWriteP50, Measure::FromWriteP99],
        targets: Vec::new(),
        plot: None,
    })
}

async fn with_driver(job: Job) -> Result<Figures> {
    let mut ages = Ages::default();
    let mut figures = driver::drain(job, async |item: Timed| ages.note(item.written)).await?;
    figures.extend(ages.figures());
    Ok(figures)
}

#[derive(Clone)]
struct Timing {
    seen: Seen,
    ages: Arc<Mutex<Ages>>,
}

#[on_change(coll = "items", op = "insert")]
async fn item_timed(
    FullDocument(item): FullDocument<Timed>,
    State(timing): State<Timing>,
) -> Handled {
    let mut ages = timing.ages.lock().unwrap_or_else(PoisonError::into_inner);
    ages.note(item.written);
    timing.seen.one();
    Ok(())
}

async fn with_changestream(job: Job) -> Result<Figures> {
    let meter = Meter::start(&job.client).await?;
    let timing = Timing {
        seen: Seen::expecting(job.events),
        ages: Arc::default(),
    };
    let runtime = sdk::builder(&job, timing.clone())
        .handlers(handlers![item_timed])
        .build()?;
    sdk::run_until(runtime, async {
        timing.seen.all().await;
        let mut figures = meter.stop(job.events).await?;
        let ages = timing.ages.lock().unwrap_or_else(PoisonError::into_inner);
        figures.extend(ages.figures());
        Ok(figures)
    })
    .await
}
