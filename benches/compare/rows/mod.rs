//! The rows of the table.

mod compile;
mod drain;
mod engine;
mod fields;
mod growth;
mod handlers;
mod latency;
mod lookup;
mod memory;
mod peers;
mod projection;
mod sinks;
mod startup;
mod wait;
mod work;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{Result, comparison::Comparison};

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Row {
    /// One typed handler against the driver's loops
    Drain,
    /// 100 handlers against one, and against 100 cursors of the driver
    Handlers,
    /// 100 handlers of fields that nothing changes against one
    Fields,
    /// 10 us of work for each event
    Work,
    /// 1 ms of waiting for each event
    Wait,
    /// One handler of ten that wants full documents
    Lookup,
    /// From the acknowledgement of a write to its handler
    Latency,
    /// Peak memory of a drain
    Memory,
    /// 2 of 40 fields against whole documents
    Projection,
    /// From start to first event
    Startup,
    /// Events from memory, on one core
    Engine,
    /// What a handler adds to a build
    Compile,
    /// What each sink delivers, next to the bare client library
    Sinks,
    /// What a slow sink leaves to the others
    SlowSink,
    /// How cost grows with handlers, size of events, lanes and lag; for `--plots`
    Growth,
    /// Other ways to react to changes, as far as they were fetched
    Peers,
    /// The same, caught up: from the write to the handler
    PeersLatency,
}

impl Row {
    /// What is measured where no row is named.
    pub(crate) const TABLE: &'static [Self] = &[
        Self::Drain,
        Self::Handlers,
        Self::Fields,
        Self::Work,
        Self::Wait,
        Self::Lookup,
        Self::Latency,
        Self::Memory,
        Self::Projection,
        Self::Startup,
        Self::Engine,
        Self::Compile,
        Self::Sinks,
        Self::SlowSink,
    ];

    pub(crate) fn comparisons(self, events: u64) -> Result<Vec<Comparison>> {
        Ok(match self {
            Self::Drain => vec![drain::comparison(events)],
            Self::Handlers => handlers::comparisons(events),
            Self::Fields => vec![fields::comparison(events)],
            Self::Work => vec![work::comparison(events)],
            Self::Wait => vec![wait::comparison(events)],
            Self::Lookup => vec![lookup::comparison(events)],
            Self::Latency => vec![latency::comparison(events)],
            Self::Memory => vec![memory::comparison(events)],
            Self::Projection => vec![projection::comparison(events)],
            Self::Startup => vec![startup::comparison()],
            Self::Engine => vec![engine::comparison(events)],
            Self::Compile => vec![compile::comparison()],
            Self::Sinks => sinks::comparisons(events),
            Self::SlowSink => vec![sinks::slow::comparison(events)],
            Self::Growth => growth::comparisons(events),
            Self::Peers => vec![peers::comparison(events)?],
            Self::PeersLatency => vec![peers::latency::comparison(events)?],
        })
    }
}
