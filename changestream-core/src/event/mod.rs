//! What the server reports: one change event, its parts and its identity.

mod change;
mod document_key;
mod id;
mod namespace;
mod operation;
mod token;
mod update_description;

pub use change::RawChange;
pub use document_key::DocumentKey;
pub use id::{ClusterTime, EventId};
pub use namespace::Namespace;
pub use operation::Operation;
pub use token::ResumeToken;
pub use update_description::{TruncatedArray, UpdateDescription};

pub(crate) use update_description::visit_changed_paths;
