mod live;

use bson::{Document, doc};
use changestream::{Operation, prelude::*};

use crate::{
    Figures, Result,
    backlog::{Backlog, collection},
    comparison::{Bound, Comparison, Contestant, Job, Target},
    driver,
    measure::Measure,
    sdk::{self, Handled, Seen},
};

const HANDLERS: usize = 100;
const COLLECTIONS: usize = 20;
/// What updates set in turn, and so how many handlers of updates a collection has.
const FIELDS: [&str; 5] = ["category", "name", "quantity", "sku", "status"];

pub(crate) fn comparisons(events: u64) -> Vec<Comparison> {
    vec![
        inserts(events),
        updates(events),
        server(events / 10),
        live::comparison(events / 100),
    ]
}

fn inserts(events: u64) -> Comparison {
    Comparison {
        name: "handlers-inserts".into(),
        about: "inserts into 20 collections; 100 handlers of which each event reaches one".into(),
        receiver: None,
        backlog: Backlog::Inserts {
            collections: COLLECTIONS,
            bytes: 220,
        },
        events,
        contestants: vec![
            Contestant::new("1 handler", |job| {
                sdk::drain(job, vec![sdk::inserts("all".into(), 0..COLLECTIONS)], |b| b)
            }),
            Contestant::new("100 handlers", |job| {
                // One of five on a collection gets its inserts, the others something that does not happen.
                let handler = |n: usize| {
                    let handler = sdk::inserts(format!("handler_{n}"), [n % COLLECTIONS]);
                    match n / COLLECTIONS {
                        0 => handler,
                        1 => handler.operations([Operation::Delete]),
                        2 => handler.operations([Operation::Replace]),
                        3 => handler.operations([Operation::Replace, Operation::Delete]),
                        _ => handler.operations([Operation::Replace]).fields(["price"]),
                    }
                };
                sdk::drain(job, (0..HANDLERS).map(handler).collect(), |b| b)
            }),
        ],
        columns: columns(),
        targets: vec![flat()],
        plot: None,
    }
}

fn updates(events: u64) -> Comparison {
    Comparison {
        name: "handlers-updates".into(),
        about: "updates of 5 fields in 20 collections; 100 handlers, each of one field of one"
            .into(),
        receiver: None,
        backlog: Backlog::Updates {
            collections: COLLECTIONS,
            update: |n| {
                let place = n as usize % COLLECTIONS;
                let field = FIELDS[n as usize / COLLECTIONS % FIELDS.len()];
                (place, value(field, n))
            },
        },
        events,
        contestants: vec![
            Contestant::new("1 handler", |job| {
                let all = HandlerSpec::new("all", item_updated)
                    .collections((0..COLLECTIONS).map(collection))
                    .operations([Operation::Update])
                    .fields(FIELDS);
                sdk::drain(job, vec![all], |b| b)
            }),
            Contestant::new("100 handlers", |job| {
                let handler = |n: usize| {
                    HandlerSpec::new(format!("handler_{n}"), item_updated)
                        .collections([collection(n % COLLECTIONS)])
                        .operations([Operation::Update])
                        .fields([FIELDS[n / COLLECTIONS]])
                };
                sdk::drain(job, (0..HANDLERS).map(handler).collect(), |b| b)
            }),
        ],
        columns: columns(),
        targets: vec![flat()],
        plot: None,
    }
}

fn value(field: &str, n: u64) -> Document {
    match field {
        "quantity" => doc! { field: n as i32 + 10 },
        _ => doc! { field: format!("{field} {n}") },
    }
}

async fn item_updated(update: UpdateDescription, State(seen): State<Seen>) -> Handled {
    for field in FIELDS {
        std::hint::black_box(update.changed(field));
    }
    seen.one();
    Ok(())
}

fn server(events: u64) -> Comparison {
    Comparison {
        name: "handlers-server".into(),
        about: "100 handlers of inserts on 20 collections against 100 cursors".into(),
        receiver: None,
        backlog: Backlog::Inserts {
            collections: COLLECTIONS,
            bytes: 220,
        },
        events,
        contestants: vec![
            Contestant::new("driver, 100 cursors", |job| {
                driver::cursors(job, HANDLERS, COLLECTIONS)
            }),
            Contestant::new("changestream, 100 handlers", hundred_on_inserts),
        ],
        columns: columns(),
        targets: vec![cursor_per_handler()],
        plot: None,
    }
}

async fn hundred_on_inserts(job: Job) -> Result<Figures> {
    let calls = job.events * (HANDLERS / COLLECTIONS) as u64;
    sdk::drain_until(job, calls, hundred(), |b| b).await
}

fn hundred() -> Vec<HandlerSpec<Seen>> {
    let handler = |n: usize| sdk::inserts(format!("handler_{n}"), [n % COLLECTIONS]);
    (0..HANDLERS).map(handler).collect()
}

fn cursor_per_handler() -> Target {
    Target {
        what: "server CPU per event",
        measure: Measure::ServerCpu,
        of: 1,
        against: Some(0),
        bound: Bound::AtMost(1.0 / 30.0),
    }
}

fn flat() -> Target {
    Target {
        what: "client CPU per event",
        measure: Measure::ClientCpu,
        of: 1,
        against: Some(0),
        bound: Bound::AtMost(1.15),
    }
}

fn columns() -> Vec<Measure> {
    vec![
        Measure::EventsPerSecond,
        Measure::ClientCpu,
        Measure::ServerCpu,
        Measure::PeakMemory,
    ]
}
