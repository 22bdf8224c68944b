//! The server's back end: a filter as aggregation stages.

use bson::{Bson, Document, doc};

use super::{FieldPath, Filter};
use crate::event::Operation;

impl Filter {
    /// The `$match` stages that go after `$changeStream`.
    ///
    /// What the server can push into its scan of the oplog comes first, `$expr` after it.
    pub fn stages(&self) -> Vec<Document> {
        let parts = match self {
            Self::And(filters) => filters.as_slice(),
            filter => std::slice::from_ref(filter),
        };
        let operations = parts.iter().find_map(|part| match part {
            Self::Operation(operations) => Some(operations.as_slice()),
            _ => None,
        });
        let query = |filter: &Self| match filter {
            Self::Changed(fields) => doc! { "$expr": changed(fields, operations) },
            filter => filter.query(),
        };
        let (expressions, pushed): (Vec<_>, Vec<_>) =
            parts.iter().partition(|filter| filter.needs_expression());
        [pushed, expressions]
            .into_iter()
            .filter(|filters| !filters.is_empty())
            .map(|filters| doc! { "$match": all(filters.into_iter().map(query).collect()) })
            .collect()
    }

    fn needs_expression(&self) -> bool {
        match self {
            Self::Operation(_) | Self::Database(_) | Self::Collection(_) => false,
            Self::Changed(_) => true,
            Self::And(filters) | Self::Or(filters) => filters.iter().any(Self::needs_expression),
            Self::Not(filter) => filter.needs_expression(),
        }
    }

    fn query(&self) -> Document {
        match self {
            Self::Operation(operations) => operation_in(operations),
            Self::Database(database) => doc! { "ns.db": { "$eq": database } },
            Self::Collection(collections) => doc! { "ns.coll": { "$in": collections } },
            Self::Changed(fields) => doc! { "$expr": changed(fields, None) },
            Self::And(filters) => all(filters.iter().map(Self::query).collect()),
            Self::Or(filters) => any(filters.iter().map(Self::query).collect()),
            Self::Not(filter) => doc! { "$nor": [filter.query()] },
        }
    }
}

pub(super) fn operation_in(operations: &[Operation]) -> Document {
    // The server has no event of a snapshot.
    let operations = operations
        .iter()
        .filter(|operation| **operation != Operation::Snapshot);
    let names: Vec<_> = operations.map(Operation::as_str).collect();
    doc! { "operationType": { "$in": names } }
}

fn all(mut queries: Vec<Document>) -> Document {
    match queries.len() {
        0 => doc! {},
        1 => queries.remove(0),
        _ => doc! { "$and": queries },
    }
}

fn any(mut queries: Vec<Document>) -> Document {
    match queries.len() {
        0 => doc! { "$alwaysFalse": 1 },
        1 => queries.remove(0),
        _ => doc! { "$or": queries },
    }
}

/// Every path that an update names as set, removed or truncated.
pub(super) fn changed_paths() -> Document {
    doc! { "$concatArrays": [
        { "$map": {
            "input": { "$objectToArray": { "$ifNull": ["$updateDescription.updatedFields", {}] } },
            "as": "field",
            "in": "$$field.k",
        } },
        { "$ifNull": ["$updateDescription.removedFields", []] },
        { "$ifNull": ["$updateDescription.truncatedArrays.field", []] },
    ] }
}

/// Whether `condition` on `$$path` holds for a path that the update changed.
pub(super) fn any_changed_path(condition: Document) -> Document {
    doc! { "$anyElementTrue": [
        { "$map": { "input": changed_paths(), "as": "path", "in": condition } },
    ] }
}

/// Whether one of `fields` changed, for events whose operation is one of `operations`, if that is known.
fn changed(fields: &[FieldPath], operations: Option<&[Operation]>) -> Document {
    if operations == Some(&[Operation::Update]) {
        return updated(fields);
    }
    let conditions = [
        (Operation::Update, updated(fields)),
        (Operation::Replace, replaced(fields)),
    ];
    let branches: Vec<_> = conditions
        .into_iter()
        .filter(|(operation, _)| operations.is_none_or(|known| known.contains(operation)))
        .map(|(operation, condition)| {
            doc! { "case": { "$eq": ["$operationType", operation.as_str()] }, "then": condition }
        })
        .collect();
    match branches.is_empty() {
        true => literal(true),
        false => doc! { "$switch": { "branches": branches, "default": true } },
    }
}

fn updated(fields: &[FieldPath]) -> Document {
    let same_or_parent: Vec<_> = fields
        .iter()
        .flat_map(|field| field.parents().chain([field.as_str()]))
        .collect();
    let is_part_of = |field: &FieldPath| {
        let prefix = format!("{field}.");
        doc! { "$eq": [{ "$indexOfBytes": ["$$path", literal(prefix)] }, 0] }
    };
    let mut touches = vec![doc! { "$in": ["$$path", literal(same_or_parent)] }];
    touches.extend(fields.iter().map(is_part_of));
    any_changed_path(doc! { "$or": touches })
}

fn replaced(fields: &[FieldPath]) -> Document {
    let differs = |field: &FieldPath| {
        let path = field.without_index();
        doc! { "$ne": [format!("$fullDocument.{path}"), format!("$fullDocumentBeforeChange.{path}")] }
    };
    let mut differs_or_unknown = vec![
        doc! { "$lte": ["$fullDocumentBeforeChange", null] },
        doc! { "$lte": ["$fullDocument", null] },
    ];
    differs_or_unknown.extend(fields.iter().map(differs));
    doc! { "$or": differs_or_unknown }
}

pub(super) fn literal(value: impl Into<Bson>) -> Document {
    doc! { "$literal": value.into() }
}
