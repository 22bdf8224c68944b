use std::task::{Context, Poll};

use tower::Service;
use tracing::{Instrument, instrument::Instrumented};

use super::StackRequest;

/// Runs each call in its request's span.
#[derive(Clone, Debug)]
pub(crate) struct Trace<S> {
    inner: S,
}

impl<S> Trace<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R> Service<R> for Trace<S>
where
    S: Service<R>,
    R: StackRequest,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let span = request.span();
        let future = span.in_scope(|| self.inner.call(request));
        future.instrument(span)
    }
}
