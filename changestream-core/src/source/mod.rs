//! The source: one change stream, read in raw batches, resumed and reopened as long as it can be.

mod batch;
mod cursor;
mod fault;
mod modes;
mod plan;
mod position;
mod preflight;
mod scan;
mod scope;
mod task;

pub use position::StartAt;

pub(crate) use batch::Batch;
pub(crate) use modes::DocumentModes;
pub(crate) use plan::Plan;
pub(crate) use position::{Mark, Position};
pub(crate) use preflight::preflight;
pub(crate) use scan::{Page, Part, Scan, collections};
pub(crate) use scope::Scope;
pub(crate) use task::SourceTask;
