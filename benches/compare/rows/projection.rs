use changestream::{Projection, prelude::*};
use serde::Deserialize;

use crate::{
    backlog::Backlog,
    comparison::{Bound, Comparison, Contestant, Target},
    measure::Measure,
    sdk::{self, Handled, Seen},
};

#[derive(Deserialize)]
struct Stock {
    #[serde(rename = "_id")]
    id: i64,
    quantity: i32,
}

pub(crate) fn comparison(events: u64) -> Comparison {
    let drain = |projection| {
        move |job| {
            sdk::drain(job, handlers![stock_inserted], move |builder| {
                builder.projection(projection)
            })
        }
    };
    Comparison {
        name: "projection".into(),
        about: "inserts of 40 fields, of which the handler's type has 2".into(),
        receiver: None,
        backlog: Backlog::Wide,
        events: events / 4,
        contestants: vec![
            Contestant::new("whole documents", drain(Projection::Whole)),
            Contestant::new("projected", drain(Projection::Fields)),
        ],
        columns: vec![
            Measure::EventsPerSecond,
            Measure::ClientCpu,
            Measure::ServerCpu,
            Measure::BytesReceived,
        ],
        targets: vec![Target {
            what: "bytes received per event",
            measure: Measure::BytesReceived,
            of: 1,
            against: Some(0),
            bound: Bound::AtMost(0.25),
        }],
        plot: None,
    }
}

#[on_change(coll = "items", op = "insert")]
async fn stock_inserted(
    FullDocument(stock): FullDocument<Stock>,
    State(seen): State<Seen>,
) -> Handled {
    std::hint::black_box((stock.id, stock.quantity));
    seen.one();
    Ok(())
}
