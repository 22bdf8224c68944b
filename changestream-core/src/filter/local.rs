//! The local back end: a filter evaluated on a raw event.

use std::{cell::OnceCell, ops::ControlFlow};

use smallvec::SmallVec;

use super::{FieldPath, Filter, equality};
use crate::{
    bson_path::Relation,
    event::{Operation, RawChange, visit_changed_paths},
};

/// An event, with what several filters look at found once.
pub(crate) struct Candidate<'a> {
    change: &'a RawChange,
    pub(crate) database: &'a [u8],
    pub(crate) collection: Option<&'a [u8]>,
    changed_paths: OnceCell<SmallVec<[&'a str; 8]>>,
}

impl Filter {
    /// Whether `change` is wanted.
    pub fn matches(&self, change: &RawChange) -> bool {
        self.selects(&Candidate::new(change))
    }

    /// The same.
    pub(crate) fn selects(&self, candidate: &Candidate<'_>) -> bool {
        match self {
            Self::Operation(operations) => operations.contains(candidate.change.operation()),
            Self::Database(database) => candidate.database == database.as_bytes(),
            Self::Collection(collections) => candidate
                .collection
                .is_some_and(|name| collections.iter().any(|wanted| wanted.as_bytes() == name)),
            Self::Changed(fields) => candidate.has_changed(fields),
            Self::And(filters) => filters.iter().all(|filter| filter.selects(candidate)),
            Self::Or(filters) => filters.iter().any(|filter| filter.selects(candidate)),
            Self::Not(filter) => !filter.selects(candidate),
        }
    }
}

impl<'a> Candidate<'a> {
    pub(crate) fn new(change: &'a RawChange) -> Self {
        Self {
            change,
            database: change.raw_database(),
            collection: change.raw_collection(),
            changed_paths: OnceCell::new(),
        }
    }

    fn has_changed(&self, fields: &[FieldPath]) -> bool {
        match self.change.operation() {
            Operation::Update => self.changed_paths().iter().any(|path| {
                let touches =
                    |field: &FieldPath| Relation::of(path, field.as_str()) != Relation::Apart;
                fields.iter().any(touches)
            }),
            Operation::Replace => match (self.change.pre_image(), self.change.full_document()) {
                (Some(before), Some(after)) => fields
                    .iter()
                    .any(|field| !equality::equal_at(before, after, field.without_index())),
                _ => true,
            },
            _ => true,
        }
    }

    fn changed_paths(&self) -> &[&'a str] {
        self.changed_paths.get_or_init(|| {
            let mut paths = SmallVec::new();
            if let Some(description) = self.change.raw_update_description() {
                _ = visit_changed_paths(description, |path| {
                    paths.push(path);
                    ControlFlow::<()>::Continue(())
                });
            }
            paths
        })
    }
}
