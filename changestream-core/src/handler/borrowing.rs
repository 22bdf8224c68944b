//! What the code calls that `#[on_change]` writes for functions whose arguments borrow from the event.

use super::{ChangeRequest, HandlerError, batch::all};
use crate::extract::{BorrowFromChange, Scratch};

/// Checks that the event has its documents.
///
/// # Errors
///
/// Where it came without them.
pub fn check_whole(request: &ChangeRequest) -> Result<(), HandlerError> {
    request.check_whole()
}

/// A request for each event of a batch, for its items to borrow from.
pub fn each(request: &ChangeRequest) -> Vec<ChangeRequest> {
    let one = ChangeRequest {
        batch: None,
        ..request.clone()
    };
    let of = |change| ChangeRequest {
        change,
        ..one.clone()
    };
    request.changes().cloned().map(of).collect()
}

/// The items of a batch.
///
/// # Errors
///
/// Which ones cannot be had.
pub fn items<'r, C: BorrowFromChange<'r>>(
    requests: &'r [ChangeRequest],
    scratch: &'r Scratch,
) -> Result<Vec<C>, HandlerError> {
    all(requests.iter().map(|request| {
        request.check_whole()?;
        Ok(C::borrow_from_change(request, scratch)?)
    }))
}
