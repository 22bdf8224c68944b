use super::{BorrowFromChange, FromChange, Needs, Reads, Rejection, Scratch};
use crate::handler::ChangeRequest;

/// `None` where the event lacks what the extractor takes ([`Rejection::absent`]); any other rejection
/// stands.
impl<S, T: FromChange<S>> FromChange<S> for Option<T> {
    const NEEDS: Needs = T::NEEDS.optional();

    fn reads() -> Reads {
        T::reads()
    }

    fn from_change(request: &ChangeRequest, state: &S) -> Result<Self, Rejection> {
        unless_absent(T::from_change(request, state))
    }
}

/// The same for what borrows from the event.
impl<'r, T: BorrowFromChange<'r>> BorrowFromChange<'r> for Option<T> {
    const NEEDS: Needs = T::NEEDS.optional();

    fn reads() -> Reads {
        T::reads()
    }

    fn borrow_from_change(
        request: &'r ChangeRequest,
        scratch: &'r Scratch,
    ) -> Result<Self, Rejection> {
        unless_absent(T::borrow_from_change(request, scratch))
    }
}

fn unless_absent<T>(taken: Result<T, Rejection>) -> Result<Option<T>, Rejection> {
    match taken {
        Ok(value) => Ok(Some(value)),
        Err(rejection) if rejection.is_absent() => Ok(None),
        Err(rejection) => Err(rejection),
    }
}
