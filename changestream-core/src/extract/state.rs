use super::{FromChange, Reads, Rejection};
use crate::handler::ChangeRequest;

/// A clone of the state that [`RuntimeBuilder::state`](crate::RuntimeBuilder::state) was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<S>(pub S);

impl<S: Clone + Send> FromChange<S> for State<S> {
    fn reads() -> Reads {
        Reads::NONE
    }

    fn from_change(_request: &ChangeRequest, state: &S) -> Result<Self, Rejection> {
        Ok(Self(state.clone()))
    }
}
