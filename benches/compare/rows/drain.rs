use std::hint::black_box;

use bson::{Document, RawDocumentBuf};

use crate::{
    backlog::Backlog,
    comparison::{Bound, Comparison, Contestant, Target},
    driver,
    measure::Measure,
    sdk,
};

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
