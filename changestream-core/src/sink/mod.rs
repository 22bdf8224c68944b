//! Sinks: where messages go.

mod batched;
mod delivery;
mod spec;

use batched::Batched;

pub use delivery::Delivery;
pub use spec::{BoxSink, SinkSpec};
