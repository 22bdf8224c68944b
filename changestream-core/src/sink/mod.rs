//! Sinks: where messages go.

mod batched;
mod delivery;
mod place;
mod route;
mod spec;

use batched::Batched;

pub use delivery::Delivery;
pub use route::{Route, Routes};
pub use spec::{BoxSink, SinkSpec};

pub(crate) use place::Place;
pub(crate) use route::{BoundRoute, list};
