//! 100 handlers against 100 cursors where they are most of the time: caught up.

use std::time::Duration;

use changestream::prelude::*;
use futures::future::try_join;
use mongodb::options::WriteConcern;
use tokio::time::interval;

use super::{COLLECTIONS, HANDLERS, cursor_per_handler, hundred};
use crate::{
    Figures, Result,
    backlog::{Backlog, Item, collection, first_id},
    comparison::{Comparison, Contestant, Job},
    driver,
    measure::{Measure, Meter},
    sdk::{self, Seen},
};

const PERIOD: Duration = Duration::from_millis(5);

pub(super) fn comparison(events: u64) -> Comparison {
    Comparison {
        name: "handlers-live".into(),
        about: "the same while 200 documents are inserted in a second, over what inserting them costs alone"
            .into(),
        receiver: None,
        backlog: Backlog::Empty,
        events: events.next_multiple_of(COLLECTIONS as u64),
        contestants: vec![
            Contestant::new("driver, 100 cursors", with_driver),
            Contestant::new("changestream, 100 handlers", with_changestream),
            Contestant::new("driver, 1 cursor", with_one_cursor),
        ],
        columns: vec![Measure::ServerCpu, Measure::ClientCpu],
        targets: vec![cursor_per_handler()],
        plot: None,
    }
}

async fn with_driver(job: Job) -> Result<Figures> {
    let alone = write(&job, first_id()).await?;
    let streams = driver::open_cursors(&job, HANDLERS, COLLECTIONS, None).await?;
    let read = driver::read_cursors(streams, job.events / COLLECTIONS as u64);
    let (figures, ()) = try_join(write(&job, first_id() + job.events), read).await?;
    Ok(over(alone, figures))
}

/// What any one cursor costs that is woken by each event.
async fn with_one_cursor(job: Job) -> Result<Figures> {
    let alone = write(&job, first_id()).await?;
    let stream = driver::watch_inserts(&job.database, None).await?;
    let read = driver::read_cursors(vec![stream], job.events);
    let (figures, ()) = try_join(write(&job, first_id() + job.events), read).await?;
    Ok(over(alone, figures))
}

async fn with_changestream(job: Job) -> Result<Figures> {
    let alone = write(&job, first_id()).await?;
    let seen = Seen::expecting(job.events * (HANDLERS / COLLECTIONS) as u64);
    let runtime = Runtime::builder(job.database.clone())
        .name(format!("bench-{}", std::process::id()))
        .state(seen.clone())
        .handlers(hundred())
        .build()?;
    let health = runtime.health();
    let figures = sdk::run_until(runtime, async {
        health.ready().await;
        let figures = write(&job, first_id() + job.events).await?;
        seen.all().await;
        Ok(figures)
    })
    .await?;
    Ok(over(alone, figures))
}

/// Writes as many items as there shall be events, from this id on.
async fn write(job: &Job, first_id: u64) -> Result<Figures> {
    let meter = Meter::start(&job.client).await?;
    let mut clock = interval(PERIOD);
    for n in 0..job.events {
        clock.tick().await;
        let place = collection(usize::try_from(n)? % COLLECTIONS);
        let item = Item::new(first_id + n, Item::LEAST_BYTES);
        let items = job.database.collection::<Item>(&place);
        let insert = items.insert_one(item);
        insert.write_concern(WriteConcern::majority()).await?;
    }
    meter.stop(job.events).await
}

fn over(alone: Figures, mut figures: Figures) -> Figures {
    for measure in [Measure::ServerCpu, Measure::ClientCpu] {
        if let (Some(alone), Some(all)) = (alone.get(&measure), figures.get_mut(&measure)) {
            *all -= alone;
        }
    }
    figures
}
