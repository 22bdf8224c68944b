use changestream::prelude::*;
use futures::StreamExt;
use mongodb::change_stream::{ChangeStream, event::ChangeStreamEvent};

use crate::{
    Figures, Result,
    backlog::{Backlog, Item, collection},
    comparison::{Bound, Comparison, Contestant, Job, Target},
    driver,
    measure::{Measure, resident_memory},
    sdk::{self, Seen, item_inserted},
};

pub(crate) fn comparison(events: u64) -> Comparison {
    Comparison {
        name: "memory".into(),
        about: "five backlogs in one, default bounds; idle is with an open stream that has had one event"
            .into(),
        receiver: None,
        backlog: Backlog::PLAIN,
        events: events * 5,
        contestants: vec![
            Contestant::new("driver, typed", with_driver),
            Contestant::new("changestream", with_changestream),
        ],
        columns: vec![
            Measure::IdleMemory,
            Measure::PeakMemory,
            Measure::MemoryOverIdle,
            Measure::EventsPerSecond,
        ],
        targets: vec![Target {
            what: "MiB over idle",
            measure: Measure::MemoryOverIdle,
            of: 1,
            against: None,
            bound: Bound::AtMost(48.0),
        }],
        plot: None,
    }
}

fn over(idle: f64, mut drained: Figures) -> Figures {
    let peak = drained[&Measure::PeakMemory];
    drained.insert(Measure::IdleMemory, idle);
    drained.insert(Measure::MemoryOverIdle, peak - idle);
    drained
}

/// A collection in which nothing but one insert happens.
fn idle_job(job: &Job) -> Job {
    let name = format!("{}_idle_{}", job.database.name(), std::process::id());
    Job {
        client: job.client.clone(),
        database: job.client.database(&name),
        start: job.start,
        events: 1,
        receiver: None,
    }
}

async fn insert_one(job: &Job) -> Result<()> {
    let items = job.database.collection::<Item>(&collection(0));
    items.insert_one(Item::new(0, Item::LEAST_BYTES)).await?;
    Ok(())
}

async fn with_driver(job: Job) -> Result<Figures> {
    let idle = idle_job(&job);
    let items = idle.database.collection::<Item>(&collection(0));
    let mut stream: ChangeStream<ChangeStreamEvent<Item>> = items.watch().await?;
    insert_one(&idle).await?;
    stream.next().await.ok_or("the stream ended")??;
    let resident = resident_memory()?;
    drop(stream);
    idle.database.drop().await?;
    Ok(over(resident, driver::typed(job).await?))
}

async fn with_changestream(job: Job) -> Result<Figures> {
    let idle = idle_job(&job);
    let seen = Seen::expecting(1);
    let runtime = Runtime::builder(idle.database.clone())
        .name("idle")
        .state(seen.clone())
        .handlers(handlers![item_inserted])
        .build()?;
    let health = runtime.health();
    let resident = sdk::run_until(runtime, async {
        health.ready().await;
        insert_one(&idle).await?;
        seen.all().await;
        resident_memory()
    })
    .await?;
    idle.database.drop().await?;
    Ok(over(resident, sdk::typed(job).await?))
}
