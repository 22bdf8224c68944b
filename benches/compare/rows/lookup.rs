use bson::doc;
use changestream::{Operation, prelude::*};

use crate::{
    Figures, Result,
    backlog::{Backlog, Item, collection},
    comparison::{Bound, Comparison, Contestant, Job, Target},
    measure::Measure,
    sdk::{self, Handled, Seen},
};

const COLLECTIONS: usize = 10;

pub(crate) fn comparison(events: u64) -> Comparison {
    Comparison {
        name: "lookup".into(),
        about: "updates in 10 collections, of which 1 % are in the one whose handler may want the full document".into(),
        receiver: None,
        backlog: Backlog::Updates {
            collections: COLLECTIONS,
            update: |n| match n % 100 {
                0 => (0, doc! { "status": format!("status {n}") }),
                _ => (1 + n as usize % (COLLECTIONS - 1), doc! { "quantity": n as i32 + 10 }),
            },
        },
        events,
        contestants: vec![
            Contestant::new("none wants it", |job| {
                ten(job, HandlerSpec::new("first", item_updated))
            }),
            Contestant::new("1 of 10 wants it", |job| {
                ten(job, HandlerSpec::new("first", status_changed))
            }),
        ],
        columns: vec![
            Measure::EventsPerSecond,
            Measure::ClientCpu,
            Measure::ServerCpu,
            Measure::BytesReceived,
        ],
        targets: vec![Target {
            what: "server CPU per event",
            measure: Measure::ServerCpu,
            of: 1,
            against: Some(0),
            bound: Bound::AtMost(1.15),
        }],
        plot: None,
    }
}

async fn ten(job: Job, first: HandlerSpec<Seen>) -> Result<Figures> {
    let others = (1..COLLECTIONS).map(|n| HandlerSpec::new(format!("handler_{n}"), item_updated));
    let handlers = [first].into_iter().chain(others).enumerate();
    let handlers = handlers.map(|(n, handler)| {
        let handler = handler.operations([Operation::Update]);
        handler.collections([collection(n)])
    });
    sdk::drain(job, handlers.collect(), |builder| builder).await
}

async fn item_updated(update: UpdateDescription, State(seen): State<Seen>) -> Handled {
    std::hint::black_box(update.changed("status"));
    seen.one();
    Ok(())
}

async fn status_changed(
    FullDocument(item): FullDocument<Item>,
    State(seen): State<Seen>,
) -> Handled {
    std::hint::black_box(item.status);
    seen.one();
    Ok(())
}
