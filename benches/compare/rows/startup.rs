use std::time::Instant;

use bson::{Document, doc};
use changestream::prelude::*;
use futures::StreamExt;
use mongodb::{
    change_stream::{ChangeStream, event::ChangeStreamEvent},
    options::WriteConcern,
};

use crate::{
    Figures, Result,
    backlog::{Backlog, Item, collection},
    comparison::{Bound, Comparison, Contestant, Job, Target},
    measure::Measure,
    sdk::{self, Seen, item_inserted},
};

pub(crate) fn comparison() -> Comparison {
    Comparison {
        name: "startup".into(),
        about: "from building to the first event, on a client that is connected".into(),
        receiver: None,
        backlog: Backlog::PLAIN,
        events: 1,
        contestants: vec![
            Contestant::new("driver, typed", with_driver),
            Contestant::new("changestream", with_changestream),
            Contestant::new("driver, typed, after a durable write", |job| {
                after_writes(job, 1)
            }),
            Contestant::new("driver, typed, after three durable writes", |job| {
                after_writes(job, 3)
            }),
        ],
        columns: vec![Measure::FirstEvent],
        targets: vec![Target {
            what: "time to first event",
            measure: Measure::FirstEvent,
            of: 1,
            against: Some(0),
            bound: Bound::AtMost(1.2),
        }],
        plot: None,
    }
}

fn since(begin: Instant) -> Figures {
    Figures::from([(Measure::FirstEvent, begin.elapsed().as_secs_f64() * 1e3)])
}

async fn connect(job: &Job) -> Result<()> {
    job.database.run_command(doc! { "ping": 1 }).await?;
    Ok(())
}

async fn with_driver(job: Job) -> Result<Figures> {
    connect(&job).await?;
    let begin = Instant::now();
    first_event(&job).await?;
    Ok(since(begin))
}

/// What a start cannot do without that is to be the only one, which takes a lease, and to lose nothing after a crash, which
/// takes a claim on the checkpoint and the place to come back to as well: each durable before the next.
async fn after_writes(job: Job, writes: i32) -> Result<Figures> {
    connect(&job).await?;
    let begin = Instant::now();
    let starts = job.database.collection::<Document>("starts");
    for step in 0..writes {
        let own = doc! { "_id": i64::from(std::process::id()) };
        let write = starts.update_one(own, doc! { "$set": { "step": step } });
        write
            .upsert(true)
            .write_concern(WriteConcern::majority())
            .await?;
    }
    first_event(&job).await?;
    Ok(since(begin))
}

async fn first_event(job: &Job) -> Result<()> {
    let items = job.database.collection::<Item>(&collection(0));
    let watch = items.watch().start_at_operation_time(job.start);
    let mut stream: ChangeStream<ChangeStreamEvent<Item>> = watch.await?;
    stream.next().await.ok_or("the stream ended")??;
    Ok(())
}

async fn with_changestream(job: Job) -> Result<Figures> {
    connect(&job).await?;
    let begin = Instant::now();
    let seen = Seen::expecting(1);
    let runtime = sdk::builder(&job, seen.clone())
        .handlers(handlers![item_inserted])
        .build()?;
    sdk::run_until(runtime, async {
        seen.all().await;
        Ok(since(begin))
    })
    .await
}
