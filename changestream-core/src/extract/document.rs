//! From a document to the user's type.

use std::any::type_name;

use bson::RawDocument;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use super::{Rejection, probe, wrong_field::wrong_field};
use crate::bson_walk::Fields;

/// How many bytes a field has, about: where all are wanted, nothing need be left out.
const FIELD: usize = 32;

/// A document that is small as a rule.
type Small = SmallVec<[u8; 256]>;

/// Decodes the fields that `T` looks at, where it is known which they are: passing another by costs `bson` as much as decoding
/// it.
pub(super) fn decode<T: DeserializeOwned>(
    what: &str,
    document: &RawDocument,
) -> Result<T, Rejection> {
    let read = |part: &[u8]| {
        let names = probe::fields::<T>().filter(|names| names.len() * FIELD < part.len());
        let wanted = names.and_then(|names| only(names, part));
        bson::deserialize_from_slice::<T>(wanted.as_deref().unwrap_or(part))
    };
    let rejected = |error| {
        undecodable(what, type_name::<T>(), document, error, &|part| {
            read(part).err()
        })
    };
    read(document.as_bytes()).map_err(rejected)
}

/// Apart from [`decode`], so that it is compiled once and not for each type. The field is found by decoding again, which
/// the usual case does not pay for.
fn undecodable(
    what: &str,
    wanted: &str,
    document: &RawDocument,
    error: bson::error::Error,
    again: &dyn Fn(&[u8]) -> Option<bson::error::Error>,
) -> Rejection {
    let place = match wrong_field(document.as_bytes(), &error, again) {
        Some(field) => format!(" at `{field}`"),
        None => String::new(),
    };
    Rejection::decode(format!("{what} as `{wanted}`{place}"), error)
}

/// The document with no other fields than these; `None` where it has no others, or is malformed.
fn only(names: &[&str], document: &[u8]) -> Option<Small> {
    let is_wanted = |name: &[u8]| names.iter().any(|wanted| wanted.as_bytes() == name);
    let mut left: Option<Small> = None;
    let mut begin = size_of::<i32>();
    for field in Fields::of(document).ok()? {
        let field = field.ok()?;
        let end = field.value.end;
        match (&mut left, is_wanted(field.name)) {
            (None, true) | (Some(_), false) => {}
            (None, false) => left = Some(Small::from_slice(&document[..begin])),
            (Some(left), true) => left.extend_from_slice(&document[begin..end]),
        }
        begin = end;
    }
    let mut left = left?;
    left.push(0);
    let length = i32::try_from(left.len()).ok()?;
    left[..size_of::<i32>()].copy_from_slice(&length.to_le_bytes());
    Some(left)
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Order {
        #[serde(rename = "items")]
        _items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        #[serde(rename = "quantity")]
        _quantity: u32,
    }

    #[test]
    fn the_wrong_field_is_named_and_its_value_is_not() {
        let document = rawdoc! { "items": [{ "quantity": 1 }, { "quantity": "secret" }] };
        let rejection = decode::<Order>("the full document", &document).expect_err("no number");
        let message = rejection.to_string();
        assert!(
            message.ends_with("Order` at `items[1].quantity` does not decode"),
            "{message}"
        );
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Priced {
        #[serde(alias = "cost")]
        price: f64,
        note: Option<String>,
    }

    fn only_of(document: &RawDocumentBuf) -> Option<RawDocumentBuf> {
        let left = only(&["price", "cost", "note"], document.as_bytes())?;
        Some(RawDocumentBuf::from_bytes(left.to_vec()).expect("a document"))
    }

    #[test]
    fn fields_that_nobody_wants_are_left_out() {
        for (document, left) in [
            (
                rawdoc! { "a": 1, "price": 1.0, "b": [1], "note": "n", "c": {} },
                rawdoc! { "price": 1.0, "note": "n" },
            ),
            (
                rawdoc! { "cost": 1.0, "prices": 2, "pric": 3 },
                rawdoc! { "cost": 1.0 },
            ),
            (rawdoc! { "a": { "price": 1.0 } }, rawdoc! {}),
        ] {
            assert_eq!(only_of(&document), Some(left));
        }
        assert_eq!(only_of(&rawdoc! { "note": "n", "price": 1.0 }), None);
        assert_eq!(only_of(&rawdoc! {}), None);
    }

    #[test]
    fn a_field_that_nobody_wants_may_be_no_text() {
        let text = "a long text that nobody reads, so that leaving it out is worth the while";
        let document = rawdoc! { "text": text, "price": 1.5 };
        let mut bytes = document.into_bytes();
        let place = bytes
            .windows(text.len())
            .position(|part| part == text.as_bytes());
        bytes[place.expect("the text")] = 0xFF;
        let document = RawDocumentBuf::from_bytes(bytes).expect("a document");
        let wanted = Priced {
            price: 1.5,
            note: None,
        };
        assert_eq!(
            decode::<Priced>("the full document", &document).expect("decodes"),
            wanted
        );
        decode::<bson::Document>("the full document", &document).expect_err("no text");
    }
}
