use std::{any::type_name, cell::Cell};

use bson::RawDocument;
use bumpalo::Bump;
use serde::Deserialize;

use super::{
    BorrowFromChange, Need, Needs, Reads, Rejection, Scratch, document::from_document,
    wrong_field::wrong_field,
};
use crate::handler::ChangeRequest;

/// The field that does not decode is not looked for where it takes more memory than this.
const ROOM_FOR_PARTS: usize = 4 << 20;

/// The document after the change, decoded.
///
/// For inserts and replaces it is the new document itself. For updates the document is looked up, with the meaning
/// of `updateLookup` (MongoDB manual, *Change Streams*): it is the committed document as it is then, which may be newer
/// than the change, and is absent when the document is gone. Where every collection whose updates ask for it records pre- and
/// post-images, it is the true post-image. A delete has none.
///
/// Absent, or not decodable as `T`, it rejects the event, but for a post-image that is missing, of which
/// [`OnMissingImage`](crate::OnMissingImage) says what happens; `Option<FullDocument<T>>` takes absence as
/// `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullDocument<T>(pub T);

impl<'r, T: Deserialize<'r> + Send> BorrowFromChange<'r> for FullDocument<T> {
    const NEEDS: Needs = Needs::NONE.full_document(Need::Required);

    fn reads() -> Reads {
        Reads::NONE.full_document::<T>()
    }

    fn borrow_from_change(
        request: &'r ChangeRequest,
        scratch: &'r Scratch,
    ) -> Result<Self, Rejection> {
        match request.change().full_document() {
            Some(document) => decode("the full document", document, scratch).map(Self),
            None => Err(Rejection::absent("the event has no full document")),
        }
    }
}

pub(super) fn decode<'de, T: Deserialize<'de>>(
    what: &str,
    document: &'de RawDocument,
    Scratch(made): &'de Scratch,
) -> Result<T, Rejection> {
    let rejected = |error| {
        undecodable(what, type_name::<T>(), document, error, made, &|part| {
            from_document::<T>(part, made).err()
        })
    };
    from_document(document.as_bytes(), made).map_err(rejected)
}

/// Apart from [`decode`], so that it is compiled once and not for each type. The field is found by decoding parts of the document
/// again, which the usual case does not pay for, and which last as long as what borrows from them might.
fn undecodable<'de>(
    what: &str,
    wanted: &str,
    document: &RawDocument,
    error: bson::error::Error,
    made: &'de Bump,
    again: &dyn Fn(&'de [u8]) -> Option<bson::error::Error>,
) -> Rejection {
    let has_no_room = Cell::new(false);
    let again = |part: &[u8]| {
        if made.allocated_bytes().saturating_add(part.len()) > ROOM_FOR_PARTS {
            has_no_room.set(true);
            return None;
        }
        again(made.alloc_slice_copy(part))
    };
    let field = wrong_field(document.as_bytes(), &error, &again);
    let place = match field.filter(|_| !has_no_room.get()) {
        Some(field) => format!(" at `{field}`"),
        None => String::new(),
    };
    Rejection::decode(format!("{what} as `{wanted}`{place}"), error)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
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

    fn message(document: &RawDocument) -> String {
        let decoded = decode::<Order>("the full document", document, &Scratch::default());
        decoded.expect_err("no number").to_string()
    }

    #[test]
    fn the_wrong_field_is_named_and_its_value_is_not() {
        let document = rawdoc! { "items": [{ "quantity": 1 }, { "quantity": "secret" }] };
        let message = message(&document);
        assert!(
            message.ends_with("Order` at `items[1].quantity` does not decode"),
            "{message}"
        );
    }

    #[test]
    fn the_wrong_field_of_a_large_document_is_not_looked_for() {
        let large = "x".repeat(ROOM_FOR_PARTS);
        let document = rawdoc! { "large": large, "items": [{ "quantity": "secret" }] };
        let message = message(&document);
        assert!(message.ends_with("Order` does not decode"), "{message}");
    }
}
