//! How cost grows, one plot each: with handlers, with the size of events, with lanes, with lag.

use changestream::prelude::*;

use super::wait::{SHARE, driver_loop, item_waited_for};
use crate::{
    backlog::Backlog,
    comparison::{Comparison, Contestant, Plot},
    driver,
    measure::Measure,
    sdk,
};

const HANDLERS: [usize; 4] = [1, 10, 30, 100];
const SIZES: [usize; 3] = [220, 2 << 10, 20 << 10];
/// With the share of the backlog that they get: with one lane it takes as long as the driver's loop.
const LANES: [(usize, u64); 4] = [(1, SHARE), (4, SHARE / 4), (16, SHARE / 16), (64, 1)];

/// In percent of the backlog.
const LAGS: [u64; 4] = [1, 10, 100, 400];

pub(crate) fn comparisons(events: u64) -> Vec<Comparison> {
    let mut all = vec![handlers(events), lanes(events)];
    all.extend(SIZES.map(|bytes| size(events, bytes)));
    all.extend(LAGS.map(|percent| lag(events, percent)));
    all
}

fn handlers(events: u64) -> Comparison {
    let collections = HANDLERS[HANDLERS.len() - 1];
    let with = move |handlers: usize| {
        let run = move |job| {
            let handler = move |n: usize| {
                let own = (0..collections).filter(move |c| c % handlers == n);
                sdk::inserts(format!("handler_{n}"), own)
            };
            sdk::drain(job, (0..handlers).map(handler).collect(), |b| b)
        };
        Contestant::new(format!("changestream, {handlers}"), run)
            .at("changestream", handlers as f64)
    };
    let driver = Contestant::new("driver, typed", driver::typed_of_database);
    Comparison {
        name: "growth-handlers".into(),
        about: "inserts into 100 collections, which so many handlers share".into(),
        receiver: None,
        backlog: Backlog::Inserts {
            collections,
            bytes: 220,
        },
        events,
        contestants: [driver].into_iter().chain(HANDLERS.map(with)).collect(),
        columns: vec![
            Measure::EventsPerSecond,
            Measure::ClientCpu,
            Measure::ServerCpu,
        ],
        targets: Vec::new(),
        plot: Some(Plot {
            file: "cpu-by-handlers",
            x: "handlers",
            y: Measure::ClientCpu,
        }),
    }
}

fn size(events: u64, bytes: usize) -> Comparison {
    let backlog = Backlog::Inserts {
        collections: 1,
        bytes,
    };
    let plot = Plot {
        file: "cpu-by-size",
        x: "bytes of the document",
        y: Measure::ClientCpu,
    };
    against_driver(
        format!("growth-size-{bytes}"),
        format!("inserts of about {bytes} bytes"),
        backlog,
        // The backlogs are about as large.
        events * SIZES[0] as u64 / bytes as u64,
        plot,
        bytes as f64,
    )
}

fn lag(events: u64, percent: u64) -> Comparison {
    let behind = (events * percent / 100).max(1);
    let plot = Plot {
        file: "cpu-by-lag",
        x: "events behind",
        y: Measure::ClientCpu,
    };
    against_driver(
        format!("growth-lag-{percent}"),
        format!("{behind} inserts of about 220 bytes behind"),
        Backlog::PLAIN,
        behind,
        plot,
        behind as f64,
    )
}

/// A drain by the driver's loop and by this crate, at `x` of the plot.
fn against_driver(
    name: String,
    about: String,
    backlog: Backlog,
    events: u64,
    plot: Plot,
    x: f64,
) -> Comparison {
    Comparison {
        name,
        about,
        receiver: None,
        backlog,
        events,
        contestants: vec![
            Contestant::new("driver, typed", driver::typed).at("driver, typed", x),
            Contestant::new("changestream", sdk::typed).at("changestream", x),
        ],
        columns: vec![
            Measure::EventsPerSecond,
            Measure::ClientCpu,
            Measure::ServerCpu,
            Measure::PeakMemory,
        ],
        targets: Vec::new(),
        plot: Some(plot),
    }
}

fn lanes(events: u64) -> Comparison {
    let with = |(lanes, share): (usize, u64)| {
        let run = move |job| {
            sdk::drain(job, handlers![item_waited_for], move |builder| {
                builder.concurrency(lanes)
            })
        };
        Contestant::new(format!("changestream, {lanes}"), run)
            .share(share)
            .at("changestream", lanes as f64)
    };
    Comparison {
        name: "growth-lanes".into(),
        about: "inserts of about 220 bytes, 1 ms of waiting for each, on so many lanes".into(),
        receiver: None,
        backlog: Backlog::PLAIN,
        events,
        contestants: [driver_loop()].into_iter().chain(LANES.map(with)).collect(),
        columns: vec![Measure::EventsPerSecond, Measure::ClientCpu],
        targets: Vec::new(),
        plot: Some(Plot {
            file: "rate-by-lanes",
            x: "lanes",
            y: Measure::EventsPerSecond,
        }),
    }
}
