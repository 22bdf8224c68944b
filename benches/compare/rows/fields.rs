use bson::doc;
use changestream::{Operation, prelude::*};

use crate::{
    Figures, Result,
    backlog::{Backlog, END, collection},
    comparison::{Bound, Comparison, Contestant, Job, Target},
    measure::Measure,
    sdk::{self, Handled, Seen},
};

const COLLECTIONS: usize = 20;
/// None of which is updated.
const FIELDS: [&str; 5] = ["category", "name", "price", "sku", "status"];

pub(crate) fn comparison(events: u64) -> Comparison {
    Comparison {
        name: "fields".into(),
        about: "updates in 20 collections of a field that no handler is about".into(),
        receiver: None,
        backlog: Backlog::Updates {
            collections: COLLECTIONS,
            update: |n| (n as usize % COLLECTIONS, doc! { "quantity": n as i32 + 10 }),
        },
        events,
        contestants: vec![
            Contestant::new("1 handler", |job| {
                let one = handler(0, 0..COLLECTIONS, FIELDS[0]);
                until_the_end(job, vec![one])
            }),
            Contestant::new("100 handlers", |job| {
                let handlers = (0..100).map(|n| {
                    let place = n % COLLECTIONS;
                    handler(n, place..place + 1, FIELDS[n / COLLECTIONS])
                });
                until_the_end(job, handlers.collect())
            }),
        ],
        columns: vec![Measure::EventsPerSecond, Measure::ServerCpu],
        targets: vec![Target {
            what: "server CPU per event",
            measure: Measure::ServerCpu,
            of: 1,
            against: Some(0),
            bound: Bound::AtMost(1.3),
        }],
        plot: None,
    }
}

fn handler(n: usize, places: std::ops::Range<usize>, field: &str) -> HandlerSpec<Seen> {
    HandlerSpec::new(format!("handler_{n}"), field_changed)
        .collections(places.map(collection))
        .operations([Operation::Update])
        .fields([field])
}

/// None of these handlers is called; one more waits for what comes after the backlog.
async fn until_the_end(job: Job, mut handlers: Vec<HandlerSpec<Seen>>) -> Result<Figures> {
    handlers.push(
        HandlerSpec::new("end", end_seen)
            .collections([END])
            .operations([Operation::Insert]),
    );
    sdk::drain_until(job, 1, handlers, |builder| builder).await
}

async fn field_changed(update: UpdateDescription) -> Handled {
    let changed = update.updated_fields();
    Err(HandlerError::reject(format!("not to be seen: {changed:?}")))
}

async fn end_seen(State(seen): State<Seen>) -> Handled {
    seen.one();
    Ok(())
}
