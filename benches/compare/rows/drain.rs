use std::hint::black_box;

use bson::{Document, RawDocumentBuf};
use changestream::prelude::*;
use serde::Deserialize;

use crate::{
    backlog::Backlog,
    comparison::{Bound, Comparison, Contestant, Target},
    driver,
    measure::Measure,
    sdk::{self, Handled, Seen},
};

/// An item whose text is not copied, which the driver's stream has no way to give.
#[derive(Deserialize)]
#[allow(dead_code)]
struct BorrowedItem<'a> {
    #[serde(rename = "_id")]
    id: u64,
    sku: &'a str,
    name: &'a str,
    category: &'a str,
    price: f64,
    quantity: i32,
    status: &'a str,
    description: &'a str,
}

#[on_change(coll = "items", op = "insert")]
async fn item_borrowed(
    FullDocument(item): FullDocument<BorrowedItem<'_>>,
    State(seen): State<Seen>,
) -> Handled {
    black_box(item.quantity);
    seen.one();
    Ok(())
}

pub(crate) fn comparison(events: u64) -> Comparison {
    Comparison {
        name: "drain".into(),
        about: "inserts of about 220 bytes, decoded to a type".into(),
        receiver: None,
        backlog: Backlog::PLAIN,
        events,
        contestants: vec![
            Contestant::new("driver, typed", driver::typed),
            Contestant::new("changestream", sdk::typed),
            Contestant::new("changestream, borrowed", |job| {
                sdk::drain(job, handlers![item_borrowed], |builder| builder)
            }),
            Contestant::new("changestream, one worker", sdk::typed).with_one_worker(),
            Contestant::new("changestream, replies of 5,000", |job| {
                sdk::drain(job, handlers![sdk::item_inserted], |builder| {
                    builder.batch_size(driver::BATCH_SIZE)
                })
            }),
            Contestant::new("driver, typed, one worker", driver::typed).with_one_worker(),
            Contestant::new("driver, Document", |job| {
                driver::drain(job, async |item: Document| {
                    black_box(item.get_i32("quantity").ok());
                })
            }),
            Contestant::new("driver, RawDocumentBuf", |job| {
                driver::drain(job, async |item: RawDocumentBuf| {
                    black_box(item.get_i32("quantity").ok());
                })
            }),
            Contestant::new("driver, raw batches, only counted", driver::raw_batches),
            Contestant::new("driver, raw batches, read ahead", driver::raw_batches_ahead),
            Contestant::new("the same, one worker", driver::raw_batches_ahead).with_one_worker(),
        ],
        columns: vec![
            Measure::EventsPerSecond,
            Measure::ClientCpu,
            Measure::ServerCpu,
            Measure::BytesReceived,
            Measure::PeakMemory,
        ],
        targets: vec![
            Target {
                what: "client CPU per event",
                measure: Measure::ClientCpu,
                of: 1,
                against: Some(0),
                bound: Bound::AtMost(0.7),
            },
            Target::rate(1.25),
        ],
        plot: None,
    }
}
