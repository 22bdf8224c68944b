//! The merged filter of all handlers: a superset whose cost does not grow with their number.
//!
//! An `$or` of exact filters costs the server about a microsecond per handler and event. Lists of
//! collections and operations, and one set of collection-and-field pairs, cost the same for one handler
//! and for a hundred. The router makes the exact check.

use std::collections::BTreeSet;

use bson::{Document, doc};

use super::{Selection, mql, selection::own_collections};
use crate::{event::Operation, source::Scope};

/// The stages that let through, at least, whatever any of `selections` wants of `scope`.
pub(crate) fn merged(selections: &[Selection], scope: &Scope) -> Vec<Document> {
    let mut stages = vec![doc! { "$match": namespaces_and_operations(selections, scope) }];
    if let Some(fields) = changed_fields(selections) {
        stages.push(doc! { "$match": { "$expr": fields } });
    }
    stages
}

/// Always lets an `invalidate` through: where one is hidden, MongoDB 4.4 closes the cursor without a
/// token to go on from, and again each time it is opened.
fn namespaces_and_operations(selections: &[Selection], scope: &Scope) -> Document {
    let mut operations: BTreeSet<_> = selections
        .iter()
        .flat_map(|selection| &selection.operations)
        .collect();
    operations.insert(&Operation::Invalidate);
    let operations: Vec<_> = operations.into_iter().cloned().collect();
    let mut query = mql::operation_in(&operations);

    if let Some(namespaces) = namespaces(selections, scope) {
        let unnamed = operations.into_iter();
        let unnamed: Vec<_> = unnamed.filter(Operation::is_without_collection).collect();
        query.insert("$or", vec![namespaces, mql::operation_in(&unnamed)]);
    }
    query
}

/// Which databases and collections; `None` where the scope alone says it.
fn namespaces(selections: &[Selection], scope: &Scope) -> Option<Document> {
    let collections: BTreeSet<_> = selections
        .iter()
        .flat_map(|selection| &selection.collections)
        .map(String::as_str)
        .collect();
    let of_every_collection = selections
        .iter()
        .any(|selection| selection.collections.is_empty());

    let mut query = Document::new();
    if let Scope::Deployment(databases) = scope {
        query.insert("ns.db", doc! { "$in": databases });
    }
    if of_every_collection {
        let mut own = own_collections().to_vec();
        own.retain(|name| !collections.contains(name));
        query.insert("ns.coll", doc! { "$nin": own });
    } else if !matches!(scope, Scope::Collection { .. }) {
        // As an expression: what MongoDB 6.0 makes for the oplog of a list in a query costs more, the longer it is.
        let collections = mql::literal(Vec::from_iter(collections));
        query.insert("$expr", doc! { "$in": ["$ns.coll", collections] });
    }
    (!query.is_empty()).then_some(query)
}

/// Which updates, by what they changed; `None` where some handler wants every update of a database.
fn changed_fields(selections: &[Selection]) -> Option<Document> {
    let (by_field, of_any_field): (Vec<_>, Vec<_>) = selections
        .iter()
        .filter(|selection| selection.selects(&Operation::Update))
        .partition(|selection| !selection.fields.is_empty());
    if by_field.is_empty()
        || of_any_field
            .iter()
            .any(|selection| selection.collections.is_empty())
    {
        return None;
    }

    let mut pairs = BTreeSet::new();
    let mut fields_of_every_collection = BTreeSet::new();
    for selection in by_field {
        for field in &selection.fields {
            let field = field.first_segment();
            if selection.collections.is_empty() {
                fields_of_every_collection.insert(field);
            }
            pairs.extend(
                selection
                    .collections
                    .iter()
                    .map(|collection| format!("{collection}.{field}")),
            );
        }
    }
    let collections: BTreeSet<_> = of_any_field
        .iter()
        .flat_map(|selection| &selection.collections)
        .map(String::as_str)
        .collect();

    let segment = doc! { "$arrayElemAt": [{ "$split": ["$$path", "."] }, 0] };
    let mut wanted = vec![doc! {
        "$in": [
            { "$concat": ["$ns.coll", ".", segment.clone()] },
            mql::literal(Vec::from_iter(pairs)),
        ],
    }];
    if !fields_of_every_collection.is_empty() {
        wanted.push(doc! {
            "$in": [segment, mql::literal(Vec::from_iter(fields_of_every_collection))],
        });
    }
    let mut any = vec![doc! { "$ne": ["$operationType", "update"] }];
    if !collections.is_empty() {
        any.push(doc! { "$in": ["$ns.coll", mql::literal(Vec::from_iter(collections))] });
    }
    any.push(mql::any_changed_path(doc! { "$or": wanted }));
    Some(doc! { "$or": any })
}
