use std::{future::Future, time::Duration};

use super::{ChangeRequest, HandlerError, Partial};
use crate::extract::{FromBatch, FromChange, Needs, Reads};

/// How many events make a batch, and how long the first waits for the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) max: usize,
    pub(crate) within: Duration,
}

/// An async function that takes a `Vec` of one extractor ([`FromChange`]), and beside it, before or after, at most
/// two arguments that are of the whole batch ([`FromBatch`]), and that returns `Result<(), E>`, where `E` becomes a
/// [`HandlerError`].
///
/// `Args` stands for the argument types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of batches",
    note = "a handler of batches is an async fn of one `Vec` of an extractor, and `State<_>` and `Attempt` where it \
            wants them, that returns `Result<(), HandlerError>`"
)]
pub trait BatchHandler<Args, S>: Clone + Send + Sync + 'static {
    /// What the events ask of the server.
    const NEEDS: Needs;

    /// Which fields of the events' documents the arguments read; by default all of both.
    fn reads() -> Reads {
        Reads::WHOLE
    }

    /// Extracts the arguments and runs the function.
    fn call(
        self,
        request: ChangeRequest,
        state: &S,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send + 'static + use<Self, Args, S>;
}

macro_rules! impl_batch_handler {
    ($($before:ident)*; $($after:ident)*) => {
        impl<F, Fut, E, S, C, $($before,)* $($after,)*>
            BatchHandler<(($($before,)*), Vec<C>, ($($after,)*)), S> for F
        where
            F: Fn($($before,)* Vec<C>, $($after),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<(), E>> + Send + 'static,
            E: Into<HandlerError>,
            C: FromChange<S>,
            $($before: FromBatch<S>,)*
            $($after: FromBatch<S>,)*
        {
            const NEEDS: Needs = C::NEEDS;

            fn reads() -> Reads {
                C::reads()$(.and($before::reads()))*$(.and($after::reads()))*
            }

            #[allow(non_snake_case)]
            fn call(
                self,
                request: ChangeRequest,
                state: &S,
            ) -> impl Future<Output = Result<(), HandlerError>> + Send + 'static + use<F, Fut, E, S, C, $($before,)* $($after,)*> {
                let running = extract(&request, state).map(|batch| {
                    $(let $before = $before::from_batch(&request, state);)*
                    $(let $after = $after::from_batch(&request, state);)*
                    self($($before,)* batch, $($after),*)
                });
                async move { running?.await.map_err(Into::into) }
            }
        }
    };
}

impl_batch_handler!(;);
impl_batch_handler!(; A);
impl_batch_handler!(A;);
impl_batch_handler!(; A B);
impl_batch_handler!(A; B);
impl_batch_handler!(A B;);

fn extract<C: FromChange<S>, S>(
    request: &ChangeRequest,
    state: &S,
) -> Result<Vec<C>, HandlerError> {
    let mut one = request.clone();
    one.batch = None;
    all(request.changes().map(|change| {
        one.change = change.clone();
        one.check_whole()?;
        Ok(C::from_change(&one, state)?)
    }))
}

/// All items, or those that cannot be had.
pub(super) fn all<C>(
    extracted: impl Iterator<Item = Result<C, HandlerError>>,
) -> Result<Vec<C>, HandlerError> {
    let (mut items, mut rejected) = (Vec::new(), Vec::new());
    for (place, item) in extracted.enumerate() {
        match item {
            Ok(item) => items.push(item),
            Err(error) => rejected.push((place, error)),
        }
    }
    match rejected.is_empty() {
        true => Ok(items),
        false => Err(HandlerError::of_partial(Partial::rejected(rejected))),
    }
}
