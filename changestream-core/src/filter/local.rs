//! The local back end: a filter evaluated on a raw event.

use super::{FieldPath, Filter, equality};
use crate::{
    bson_path::Relation,
    event::{Operation, RawChange, changed_paths},
};

impl Filter {
    /// Whether `change` is wanted.
    pub fn matches(&self, change: &RawChange) -> bool {
        match self {
            Self::Operation(operations) => operations.contains(change.operation()),
            Self::Database(database) => change.database() == database,
            Self::Collection(collections) => change
                .collection()
                .is_some_and(|name| collections.iter().any(|wanted| wanted == name)),
            Self::Changed(fields) => changed(change, fields),
            Self::And(filters) => filters.iter().all(|filter| filter.matches(change)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(change)),
            Self::Not(filter) => !filter.matches(change),
        }
    }
}

fn changed(change: &RawChange, fields: &[FieldPath]) -> bool {
    match change.operation() {
        Operation::Update => change.raw_update_description().is_some_and(|description| {
            changed_paths(description).any(|path| {
                let touches =
                    |field: &FieldPath| Relation::of(path, field.as_str()) != Relation::Apart;
                fields.iter().any(touches)
            })
        }),
        Operation::Replace => match (change.pre_image(), change.full_document()) {
            (Some(before), Some(after)) => fields
                .iter()
                .any(|field| !equality::equal_at(before, after, field.without_index())),
            _ => true,
        },
        _ => true,
    }
}
