//! Filters: one tree with two back ends, MongoDB's query language and a local evaluation on raw BSON.

mod equality;
mod local;
mod merged;
mod mql;
mod path;
mod selection;

pub use path::{FieldPath, InvalidPath};

pub(crate) use equality::equal;
pub(crate) use local::Candidate;
pub(crate) use merged::merged;
pub(crate) use selection::{Selection, own_collections};

use crate::event::Operation;

/// Which change events are wanted.
///
/// The same tree is sent to the server ([`stages`](Self::stages)) and evaluated here
/// ([`matches`](Self::matches)); property tests hold the two equal on a real server.
///
/// # Example
///
/// ```
/// use changestream_core::{FieldPath, Filter, Operation};
///
/// let filter = Filter::And(vec![
///     Filter::Operation(vec![Operation::Update]),
///     Filter::Collection(vec!["orders".into()]),
///     Filter::Changed(vec![FieldPath::new("payment.status")?]),
/// ]);
/// assert_eq!(filter.stages().len(), 2);
/// # Ok::<(), changestream_core::InvalidPath>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Filter {
    /// The operation is one of these.
    Operation(Vec<Operation>),
    /// The database is this one. An `invalidate` names none.
    Database(String),
    /// The collection is one of these. `dropDatabase` and `invalidate` name none.
    Collection(Vec<String>),
    /// One of these fields changed: for an update, the field, a parent or a part of it was set, removed
    /// or truncated; for a replace, it differs from the pre-image, or there is no pre-image. Other
    /// operations pass.
    ///
    /// Pre-images are there when a handler of the runtime takes them and the collection records them. MongoDB
    /// before 5.0 reports updates by pipeline as replaces.
    ///
    /// Where a path has a numeric segment, which may be an array index, a replace compares the whole
    /// value above it. A path goes through arrays of documents, not through arrays within arrays.
    Changed(Vec<FieldPath>),
    /// All of these; with none, everything.
    And(Vec<Filter>),
    /// Any of these; with none, nothing.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
}
