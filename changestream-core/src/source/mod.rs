//! The source: one change stream, read in raw batches, resumed and reopened as long as it can be.

mod ahead;
mod batch;
mod cursor;
mod fault;
mod fragment;
mod lookup;
mod modes;
mod oversize;
mod patience;
mod plan;
mod policy;
mod position;
mod prefetch;
mod preflight;
mod projection;
mod scan;
mod scope;
mod task;

pub use policy::{OnInvalidate, OnLostHistory, OnMissingImage, OnOversizeEvent};
pub use position::StartAt;
pub use projection::Projection;

pub(crate) use ahead::check_reached;
pub(crate) use batch::Batch;
#[cfg(any(fuzzing, test, feature = "testing"))]
pub(crate) use fragment::Assembly;
pub(crate) use lookup::Lookup;
pub(crate) use modes::{DocumentModes, FullDocumentMode};
pub(crate) use plan::Plan;
pub(crate) use policy::StreamPolicy;
pub(crate) use position::{Mark, Position};
pub(crate) use preflight::{preflight, unreachable};
pub(crate) use projection::{of_find, reads};
pub(crate) use scan::{Page, Part, Scan, collections};
pub(crate) use scope::Scope;
pub(crate) use task::{SourceTask, Wishes};
