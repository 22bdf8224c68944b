//! What a server makes of the merged filter: as much of its query language as that speaks. Any other word is a panic, so
//! that this learns it too. That a real server understands it likewise is shown by `tests/suite/filter_properties.rs`.

use bson::{Bson, Document};
use changestream_core::RawChange;

/// The event, where a server could have made it: no field comes twice, and a description of an update is one.
pub(crate) fn event(change: &RawChange) -> Option<Document> {
    let event: Document = bson::deserialize_from_slice(change.as_raw().as_bytes()).ok()?;
    let is_the_same = bson::serialize_to_vec(&event).ok()? == change.as_raw().as_bytes();
    let names = event.get_document("ns").ok();
    let names = names.into_iter().flat_map(Document::values);
    let mut plausible = is_the_same && names.into_iter().all(|name| name.as_str().is_some());
    if let Some(description) = event.get("updateDescription") {
        let description = description.as_document()?;
        let is_array_of = |name, is_one: fn(&Bson) -> bool| match description.get(name) {
            None => true,
            Some(array) => array
                .as_array()
                .is_some_and(|array| array.iter().all(is_one)),
        };
        plausible &= description.get_document("updatedFields").is_ok();
        plausible &= is_array_of("removedFields", |path| path.as_str().is_some());
        plausible &= is_array_of("truncatedArrays", is_truncated_array);
    }
    plausible.then_some(event)
}

fn is_truncated_array(array: &Bson) -> bool {
    array.as_document().is_some_and(|array| {
        array.get_str("field").is_ok()
            && matches!(array.get("newSize"), Some(Bson::Int32(size)) if *size >= 0)
    })
}

/// Whether the event comes through all `stages`.
pub(crate) fn selects(stages: &[Document], event: &Document) -> bool {
    stages.iter().all(|stage| {
        let query = stage.get_document("$match").expect("the only stage");
        matches(query, event)
    })
}

fn matches(query: &Document, event: &Document) -> bool {
    query.iter().all(|(key, wanted)| match key.as_str() {
        "$expr" => evaluate(wanted, event) == Bson::Boolean(true),
        "$or" => array(wanted)
            .iter()
            .any(|query| matches(document(query), event)),
        path => {
            let value = look_up(event, path);
            document(wanted)
                .iter()
                .all(|(operator, list)| match operator.as_str() {
                    "$in" => array(list).contains(&value),
                    "$nin" => !array(list).contains(&value),
                    other => panic!("{other} is unknown"),
                })
        }
    })
}

/// An expression; what is missing is null. Variables stand in `scope` beside the event's fields, as `$name`.
fn evaluate(expression: &Bson, scope: &Document) -> Bson {
    let operation = match expression {
        Bson::String(path) => match path.strip_prefix('$') {
            Some(path) => return look_up(scope, path),
            None => return expression.clone(),
        },
        Bson::Array(items) => return items.iter().map(|item| evaluate(item, scope)).collect(),
        Bson::Document(operation) => operation,
        _ => return expression.clone(),
    };
    let Some((operator, operand)) = operation.iter().next() else {
        return expression.clone();
    };
    match operator.as_str() {
        "$literal" => return operand.clone(),
        "$map" => return map(document(operand), scope),
        _ => {}
    }
    let value = evaluate(operand, scope);
    match (operator.as_str(), &value) {
        ("$or", Bson::Array(values)) => values.contains(&Bson::Boolean(true)).into(),
        ("$ne", Bson::Array(values)) => (values[0] != values[1]).into(),
        ("$in", Bson::Array(values)) => array(&values[1]).contains(&values[0]).into(),
        ("$anyElementTrue", Bson::Array(values)) => {
            array(&values[0]).contains(&Bson::Boolean(true)).into()
        }
        ("$concatArrays", Bson::Array(values)) => values.iter().flat_map(array).cloned().collect(),
        ("$objectToArray", Bson::Document(fields)) => fields
            .iter()
            .map(|(key, value)| bson::doc! { "k": key, "v": value })
            .collect(),
        ("$ifNull", Bson::Array(values)) => match &values[0] {
            Bson::Null => values[1].clone(),
            value => value.clone(),
        },
        ("$concat", Bson::Array(parts)) => {
            let text: Option<String> = parts.iter().map(Bson::as_str).collect();
            text.map_or(Bson::Null, Bson::String)
        }
        ("$arrayElemAt", Bson::Array(values)) => array(&values[0])[0].clone(),
        ("$split", Bson::Array(values)) => {
            let (text, separator) = (values[0].as_str(), values[1].as_str());
            let parts = text.expect("a text").split(separator.expect("a text"));
            parts.map(str::to_owned).collect()
        }
        (other, _) => panic!("{other} of {value} is unknown"),
    }
}

fn map(operation: &Document, scope: &Document) -> Bson {
    let name = operation.get_str("as").expect("a name");
    let (input, within) = (&operation["input"], &operation["in"]);
    let mut scope = scope.clone();
    let input = evaluate(input, &scope);
    let each = array(&input).iter().map(|item| {
        scope.insert(format!("${name}"), item.clone());
        evaluate(within, &scope)
    });
    each.collect()
}

/// The value at a path; through an array, what its documents hold there.
fn look_up(document: &Document, path: &str) -> Bson {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    match document.get(first) {
        None => Bson::Null,
        Some(value) if rest.is_empty() => value.clone(),
        Some(Bson::Document(within)) => look_up(within, rest),
        Some(Bson::Array(items)) => items
            .iter()
            .filter_map(Bson::as_document)
            .map(|item| look_up(item, rest))
            .collect(),
        Some(_) => Bson::Null,
    }
}

fn array(value: &Bson) -> &Vec<Bson> {
    value.as_array().expect("an array")
}

fn document(value: &Bson) -> &Document {
    value.as_document().expect("a document")
}
