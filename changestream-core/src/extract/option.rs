use super::{FromChange, Needs, Reads, Rejection};
use crate::handler::ChangeRequest;

/// `None` where the event lacks what the extractor takes ([`Rejection::absent`]); any other rejection
/// stands.
impl<S, T: FromChange<S>> FromChange<S> for Option<T> {
    const NEEDS: Needs = T::NEEDS.optional();

    fn reads() -> Reads {
        T::reads()
    }

    fn from_change(request: &ChangeRequest, state: &S) -> Result<Self, Rejection> {
        match T::from_change(request, state) {
            Ok(value) => Ok(Some(value)),
            Err(rejection) if rejection.is_absent() => Ok(None),
            Err(rejection) => Err(rejection),
        }
    }
}
