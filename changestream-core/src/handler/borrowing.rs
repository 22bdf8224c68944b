//! What the code calls that `#[on_change]` writes for functions whose arguments borrow from the event.

use super::{ChangeRequest, HandlerError, batch::all};
use crate::extract::{BorrowFromChange, Scratch};

/// Memory for arguments that borrow from `request`.
///
/// # Errors
///
/// Where the event is without its documents.
pub fn scratch(request: &ChangeRequest) -> Result<Scratch, HandlerError> {
    request.check_whole()?;
    Ok(Scratch::default())
}

/// A request for each event of a batch, for its items to borrow from.
pub fn each(request: &ChangeRequest) -> Vec<ChangeRequest> {
    let of = |change| ChangeRequest {
        change,
        batch: None,
        ..request.clone()
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
