use serde::de::DeserializeOwned;

use super::{FromChange, Need, Needs, Reads, Rejection, full_document::decode};
use crate::handler::ChangeRequest;

/// The document before the change, decoded.
///
/// The collection must record pre-images (`changeStreamPreAndPostImages`, MongoDB 6.0 and later), and an
/// image may have expired: then [`OnMissingImage`](crate::OnMissingImage) says what happens. Inserts have none,
/// which rejects the event, as does one that is not decodable as `T`. `Option<PreImage<T>>` takes absence as
/// `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreImage<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromChange<S> for PreImage<T> {
    const NEEDS: Needs = Needs::NONE.pre_image(Need::Required);

    fn reads() -> Reads {
        Reads::NONE.pre_image::<T>()
    }

    fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
        match request.change().pre_image() {
            Some(document) => decode("the pre-image", document).map(Self),
            None => Err(Rejection::absent("the event has no pre-image")),
        }
    }
}
