//! What a slow sink leaves to the others of its runtime.

use changestream::{
    HttpSink, RawChange,
    prelude::*,
    testing::{TestRuntime, change},
};

use super::{counted, deliver, payload, sender};
use crate::{
    Figures, Result,
    backlog::Backlog,
    comparison::{Comparison, Contestant, Job, Target},
    measure::Measure,
    receiver::Receiver,
    sdk::Seen,
};

/// The sinks, the first of which may be slow; each event goes to one of them.
const SINKS: u64 = 10;
const FAST_MS: u64 = 1;
const SLOW_MS: u64 = 10 * FAST_MS;

pub(crate) fn comparison(events: u64) -> Comparison {
    Comparison {
        name: "slow-sink".into(),
        about: "ten HTTP sinks, each with a tenth of the events: what nine of them deliver whose receivers take 1 ms"
            .into(),
        receiver: Some(Receiver::Http),
        backlog: Backlog::Empty,
        events: events / 10,
        contestants: vec![
            Contestant::new("the tenth takes 1 ms", |job| run(job, FAST_MS)),
            Contestant::new("the tenth takes 10 ms", |job| run(job, SLOW_MS)),
        ],
        columns: vec![Measure::EventsPerSecond, Measure::ClientCpu],
        targets: vec![Target::rate(0.9)],
        plot: None,
    }
}

async fn run(job: Job, wait: u64) -> Result<Figures> {
    let changes = (0..job.events).map(|n| {
        let collection = name(n % SINKS);
        change::insert(&collection).id(n as i64).build()
    });
    let changes: Vec<RawChange> = changes.collect();
    let others = job.events - job.events.div_ceil(SINKS);
    let seen = Seen::expecting(others);
    let mut builder = TestRuntime::builder();
    for n in 0..SINKS {
        let wait = if n == 0 { wait } else { FAST_MS };
        let sink = SinkSpec::from(HttpSink::new(format!("{}{wait}", job.receiver()?))?);
        let sink = match n {
            0 => sink,
            _ => counted(sink, &seen),
        };
        let name = name(n);
        builder = builder
            .handlers([sender(&name, payload()?)])
            .sink(name, sink);
    }
    deliver(job, builder.build()?, changes, seen, others).await
}

fn name(n: u64) -> String {
    format!("items_{n}")
}
