use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::handler::HandlerError;

/// Turns a panic of the inner service into an error, so that it is one failed attempt like any other.
#[derive(Clone, Debug)]
pub(crate) struct CatchPanic<S> {
    inner: S,
}

impl<S> CatchPanic<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R> Service<R> for CatchPanic<S>
where
    S: Service<R, Error = HandlerError>,
{
    type Response = S::Response;
    type Error = HandlerError;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let call = AssertUnwindSafe(|| self.inner.call(request));
        match catch_unwind(call) {
            Ok(future) => CatchPanicFuture::Running { future },
            Err(panic) => CatchPanicFuture::Panicked {
                error: Some(error(&*panic)),
            },
        }
    }
}

pin_project! {
    #[project = Projected]
    pub(crate) enum CatchPanicFuture<F> {
        Running { #[pin] future: F },
        Panicked { error: Option<HandlerError> },
    }
}

impl<F, T> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<T, HandlerError>>,
{
    type Output = Result<T, HandlerError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Running { future } => {
                let poll = AssertUnwindSafe(|| future.poll(cx));
                Poll::Ready(match catch_unwind(poll) {
                    Ok(poll) => ready!(poll),
                    Err(panic) => Err(error(&*panic)),
                })
            }
            Projected::Panicked { error } => {
                Poll::Ready(Err(error.take().expect("polled after completion")))
            }
        }
    }
}

fn error(panic: &(dyn Any + Send)) -> HandlerError {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    HandlerError::panic(match message {
        Some(message) => format!("panicked: {message}"),
        None => "panicked".to_owned(),
    })
}
