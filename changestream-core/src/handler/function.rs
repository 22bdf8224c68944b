use std::future::Future;

use super::{ChangeRequest, HandlerError};
use crate::{
    extract::{FromChange, Needs, Reads},
    message::{IntoMessages, Message},
};

/// An async function whose arguments are extractors ([`FromChange`]), up to eight of them, and that
/// returns `Result<O, E>`, where `O` becomes messages ([`IntoMessages`]) and `E` a [`HandlerError`].
///
/// `Args` is the tuple of the argument types.
///
/// A handler that blocks its thread, or computes for longer than a millisecond or so, leaves that to `tokio::task::spawn_blocking`: until it first
/// waits, it may hold up all that the runtime does.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an async fn of at most eight extractors that returns `Result<_, HandlerError>`",
    note = "one whose arguments borrow from the event needs `#[on_change]`"
)]
pub trait Handler<Args, S>: Clone + Send + Sync + 'static {
    /// What the arguments ask of the server.
    const NEEDS: Needs;

    /// Which fields of the documents the arguments read; by default all of both.
    fn reads() -> Reads {
        Reads::WHOLE
    }

    /// Extracts the arguments and runs the function.
    fn call(
        self,
        request: ChangeRequest,
        state: &S,
    ) -> impl Future<Output = Result<Vec<Message>, HandlerError>> + Send + 'static + use<Self, Args, S>;
}

macro_rules! impl_handler {
    ($($argument:ident)*) => {
        impl<F, Fut, O, E, S, $($argument,)*> Handler<($($argument,)*), S> for F
        where
            F: Fn($($argument),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<O, E>> + Send + 'static,
            O: IntoMessages,
            E: Into<HandlerError>,
            $($argument: FromChange<S>,)*
        {
            const NEEDS: Needs = Needs::NONE$(.and($argument::NEEDS))*;

            fn reads() -> Reads {
                Reads::NONE$(.and($argument::reads()))*
            }

            #[allow(unused_variables, non_snake_case, clippy::redundant_closure_call)]
            fn call(
                self,
                request: ChangeRequest,
                state: &S,
            ) -> impl Future<Output = Result<Vec<Message>, HandlerError>> + Send + 'static + use<F, Fut, O, E, S, $($argument,)*> {
                let running = (|| {
                    request.check_whole()?;
                    $(let $argument = $argument::from_change(&request, state)?;)*
                    Ok::<_, HandlerError>(self($($argument),*))
                })();
                async move { running?.await.map_err(Into::into)?.into_messages() }
            }
        }
    };
}

impl_handler!();
impl_handler!(A);
impl_handler!(A B);
impl_handler!(A B C);
impl_handler!(A B C D);
impl_handler!(A B C D G);
impl_handler!(A B C D G H);
impl_handler!(A B C D G H I);
impl_handler!(A B C D G H I J);
