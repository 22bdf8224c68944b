use serde::de::DeserializeOwned;

use super::{FromChange, Need, Needs, Reads, Rejection, document::decode};
use crate::handler::ChangeRequest;

/// The document after the change, decoded.
///
/// For inserts and replaces it is the new document itself. For updates the document is looked up, with the meaning
/// of `updateLookup` (MongoDB manual, *Change Streams*): it is the committed document as it is then, which may be newer
/// than the change, and is absent when the document is gone. Where every collection whose updates ask for it records pre- and
/// post-images, it is the true post-image. A delete has none.
///
/// Of a document with fields that `T` does not look at, only those are decoded that it does, where it is known which: see
/// [`Reads::full_document`].
///
/// Absent, or not decodable as `T`, it rejects the event, but for a post-image that is missing, of which
/// [`OnMissingImage`](crate::OnMissingImage) says what happens; `Option<FullDocument<T>>` takes absence as
/// `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullDocument<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromChange<S> for FullDocument<T> {
    const NEEDS: Needs = Needs::NONE.full_document(Need::Required);

    fn reads() -> Reads {
        Reads::NONE.full_document::<T>()
    }

    fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
        match request.change().full_document() {
            Some(document) => decode("the full document", document).map(Self),
            None => Err(Rejection::absent("the event has no full document")),
        }
    }
}
