//! Which field of a document does not decode, found by decoding what is before it.
//!
//! The crate `serde_path_to_error` tells it too, and has all that decodes a type compiled once more for that.

use std::fmt::Write as _;

use bson::error::Error;

use crate::bson_walk::{ARRAY, DOCUMENT, Field, Fields};

/// A field of no type that there is: decoding goes no further.
const END: [u8; 2] = [0x66, 0];

/// The path of the field at which decoding failed with `error`, as in `items[1].quantity`. `None` where it failed at none, as
/// it does where one is missing.
///
/// `again` decodes another document, and tells how that fails, if it does.
pub(super) fn wrong_field(
    document: &[u8],
    error: &Error,
    again: &dyn Fn(&[u8]) -> Option<Error>,
) -> Option<String> {
    let error = error.to_string();
    let mut path = String::new();
    let mut starts = Vec::new();
    let (mut place, mut element_type) = (0..document.len(), DOCUMENT);
    while matches!(element_type, DOCUMENT | ARRAY) {
        starts.push(place.start);
        let fields = Fields::within(document, place).ok()?;
        let fields = fields.collect::<Result<Vec<_>, _>>().ok()?;
        let is_passed = |field: &Field<'_>| {
            let part = up_to(document, &starts, field.value.end);
            again(&part).is_none_or(|other| other.to_string() != error)
        };
        let index = fields.partition_point(is_passed);
        let Some(field) = fields.get(index) else {
            break;
        };
        let name = String::from_utf8_lossy(field.name);
        match (element_type, path.is_empty()) {
            (ARRAY, _) => write!(path, "[{name}]").ok()?,
            (_, true) => path.push_str(&name),
            (_, false) => write!(path, ".{name}").ok()?,
        }
        (place, element_type) = (field.value.clone(), field.element_type);
    }
    (!path.is_empty()).then_some(path)
}

/// The document up to the byte `end`, which is within the documents that begin at `starts`, and nothing that decodes after it.
fn up_to(document: &[u8], starts: &[usize], end: usize) -> Vec<u8> {
    let mut part = document[..end].to_vec();
    part.extend(END);
    let mut end = part.len() + starts.len();
    part.resize(end, 0);
    for start in starts {
        let length = (end - start) as i32;
        part[*start..start + 4].copy_from_slice(&length.to_le_bytes());
        end -= 1;
    }
    part
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bson::{RawDocumentBuf, rawdoc};
    use bumpalo::Bump;
    use serde::{Deserialize, de::DeserializeOwned};

    use super::*;
    use crate::extract::document::from_document;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Order {
        name: String,
        #[serde(default)]
        items: Vec<Item>,
        customer: Option<Customer>,
        #[serde(default)]
        stock: BTreeMap<String, u32>,
        size: Option<(u32, u32)>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Item {
        quantity: u32,
        price: Option<f64>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Customer {
        name: String,
    }

    #[derive(Deserialize)]
    #[serde(tag = "kind")]
    #[allow(dead_code)]
    enum Tagged {
        Order(Order),
    }

    fn found<T: DeserializeOwned>(document: &RawDocumentBuf) -> Option<String> {
        let again = |part: &[u8]| from_document::<T>(part, &Bump::new()).err();
        let error = again(document.as_bytes())?;
        wrong_field(document.as_bytes(), &error, &again)
    }

    #[test]
    fn the_first_wrong_field_is_found_wherever_it_is() {
        let item = |quantity: &str| rawdoc! { "more": 1, "quantity": quantity };
        for (document, path) in [
            (rawdoc! { "name": 1, "items": "none" }, "name"),
            (rawdoc! { "more": { "name": 1 }, "name": 1 }, "name"),
            (
                rawdoc! { "name": "", "items": [{ "quantity": 1 }, item("2"), item("3")] },
                "items[1].quantity",
            ),
            (
                rawdoc! { "name": "", "items": [{ "quantity": 1, "price": true }] },
                "items[0].price",
            ),
            (
                rawdoc! { "name": "", "stock": { "a": 1, "b": -1, "c": -1 } },
                "stock.b",
            ),
            (rawdoc! { "customer": { "name": 1 } }, "customer.name"),
            (rawdoc! { "size": [1, "2"], "name": "" }, "size[1]"),
        ] {
            assert_eq!(
                found::<Order>(&document).as_deref(),
                Some(path),
                "{document:?}"
            );
        }
    }

    #[test]
    fn what_lacks_a_field_is_found_and_what_has_it_is_not() {
        for (document, path) in [
            (
                rawdoc! { "more": 1, "name": "", "customer": {} },
                Some("customer"),
            ),
            (
                rawdoc! { "more": 1, "customer": {}, "name": "" },
                Some("customer"),
            ),
            (
                rawdoc! { "name": "", "items": [{ "quantity": 1 }, { "price": 1.0 }] },
                Some("items[1]"),
            ),
            (rawdoc! { "name": "", "size": [1] }, Some("size")),
            (rawdoc! { "more": 1, "items": [] }, None),
            (rawdoc! {}, None),
            (rawdoc! { "name": "" }, None),
        ] {
            assert_eq!(found::<Order>(&document).as_deref(), path, "{document:?}");
        }
    }

    #[test]
    fn none_is_named_where_all_fields_are_read_before_any_is_decoded() {
        let document = rawdoc! { "name": 1, "kind": "Order" };
        assert_eq!(found::<Tagged>(&document), None);
    }
}
