use std::any::type_name;

use bson::RawDocument;
use serde::Deserialize;

use super::{
    BorrowFromChange, Need, Needs, Reads, Rejection, Scratch, document::from_document,
    wrong_field::wrong_field,
};
use crate::handler::ChangeRequest;

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
        undecodable(what, type_name::<T>(), document, error, &|part| {
            from_document::<T>(made.alloc_slice_copy(part), made).err()
        })
    };
    from_document(document.as_bytes(), made).map_err(rejected)
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

    #[test]
    fn the_wrong_field_is_named_and_its_value_is_not() {
        let document = rawdoc! { "items": [{ "quantity": 1 }, { "quantity": "secret" }] };
        let rejection = decode::<Order>("the full document", &document, &Scratch::default());
        let rejection = rejection.expect_err("no number");
        let message = rejection.to_string();
        assert!(
            message.ends_with("Order` at `items[1].quantity` does not decode"),
            "{message}"
        );
    }
}
