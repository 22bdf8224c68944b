use super::{Reads, State};
use crate::handler::{Attempt, ChangeRequest};

/// A type that a handler of batches can take beside the `Vec` of its events: what is of the batch as a whole.
///
/// `S` is the state that [`RuntimeBuilder::state`](crate::RuntimeBuilder::state) was given.
///
/// # Example
///
/// ```
/// use changestream_core::{ChangeRequest, FromBatch};
///
/// struct Size(usize);
///
/// impl<S> FromBatch<S> for Size {
///     fn from_batch(request: &ChangeRequest, _state: &S) -> Self {
///         Self(request.changes().count())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler of batches with state `{S}`",
    label = "not of the whole batch",
    note = "beside the `Vec` of its events, a handler of batches takes `State<S>` and `Attempt`; what is of one event \
            is in its item of the `Vec`, as in `Vec<Change<T>>`",
    note = "for a type of your own implement `FromBatch<S>`"
)]
pub trait FromBatch<S>: Send + Sized {
    /// Which fields it reads of the events' documents, as [`FromChange::reads`](super::FromChange::reads) has it; by
    /// default all of both.
    fn reads() -> Reads {
        Reads::WHOLE
    }

    /// Makes the value.
    fn from_batch(request: &ChangeRequest, state: &S) -> Self;
}

impl<S: Clone + Send> FromBatch<S> for State<S> {
    fn reads() -> Reads {
        Reads::NONE
    }

    fn from_batch(_request: &ChangeRequest, state: &S) -> Self {
        Self(state.clone())
    }
}

/// Which attempt at these events it is. All of a batch have made as many.
impl<S> FromBatch<S> for Attempt {
    fn reads() -> Reads {
        Reads::NONE
    }

    fn from_batch(request: &ChangeRequest, _state: &S) -> Self {
        request.attempt()
    }
}
