use serde::Deserialize;

use super::{BorrowFromChange, Need, Needs, Reads, Rejection, Scratch, full_document::decode};
use crate::handler::ChangeRequest;

/// The document before the change, decoded.
///
/// The collection must record pre-images (`changeStreamPreAndPostImages`, MongoDB 6.0 and later), and an
/// image may have expired: then [`OnMissingImage`](crate::OnMissingImage) says what happens. Inserts have none,
/// which rejects the event, as does one that is not decodable as `T`. `Option<PreImage<T>>` takes absence as
/// `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreImage<T>(pub T);

impl<'r, T: Deserialize<'r> + Send> BorrowFromChange<'r> for PreImage<T> {
    const NEEDS: Needs = Needs::NONE.pre_image(Need::Required);

    fn reads() -> Reads {
        Reads::NONE.pre_image::<T>()
    }

    fn borrow_from_change(
        request: &'r ChangeRequest,
        scratch: &'r Scratch,
    ) -> Result<Self, Rejection> {
        match request.change().pre_image() {
            Some(document) => decode("the pre-image", document, scratch).map(Self),
            None => Err(Rejection::absent("the event has no pre-image")),
        }
    }
}
