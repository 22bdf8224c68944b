use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::{BoxFuture, Either};
use pin_project_lite::pin_project;
use tower::{Service, ServiceExt, util::Oneshot};

use super::{Backoff, Meter, StackRequest};
use crate::{
    dead_letter::{self, DeadLetterStore},
    handler::HandlerError,
};

/// Between attempts to write a dead letter.
const WRITE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// Writes what failed for good to the dead letters, and is done only when that is durable.
///
/// While the store fails, the event stays unfinished and the write is tried again: nothing is skipped.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter<S> {
    inner: S,
    is_always_ready: bool,
    letters: Arc<Letters>,
}

/// Where dead letters come from and go to.
#[derive(Debug)]
struct Letters {
    runtime: Arc<str>,
    store: Arc<dyn DeadLetterStore>,
    meter: Arc<Meter>,
}

impl<S> DeadLetter<S> {
    pub(crate) fn new(
        inner: S,
        runtime: Arc<str>,
        store: Arc<dyn DeadLetterStore>,
        meter: Arc<Meter>,
    ) -> Self {
        let letters = Letters {
            runtime,
            store,
            meter,
        };
        Self {
            inner,
            is_always_ready: false,
            letters: Arc::new(letters),
        }
    }

    /// Says whether the inner service is ready for any call without being asked. A clone for each call, which is dropped with all that it
    /// has reserved once it is called, is then saved.
    pub(crate) fn always_ready(self, is_always_ready: bool) -> Self {
        Self {
            is_always_ready,
            ..self
        }
    }
}

impl<S, R> Service<R> for DeadLetter<S>
where
    S: Service<R, Error = HandlerError> + Clone,
    R: StackRequest,
{
    /// `None` for what became a dead letter.
    type Response = Option<S::Response>;
    type Error = Infallible;
    type Future = DeadLetterFuture<Either<S::Future, Oneshot<S, R>>, R>;

    /// Always ready: readiness of the inner service is part of the call, so that its failure is
    /// dead-lettered too.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        DeadLetterFuture {
            call: match self.is_always_ready {
                true => Either::Left(self.inner.call(request.clone())),
                false => Either::Right(self.inner.clone().oneshot(request.clone())),
            },
            writing: None,
            request,
            letters: Arc::clone(&self.letters),
        }
    }
}

pin_project! {
    pub(crate) struct DeadLetterFuture<F, R> {
        #[pin]
        call: F,
        writing: Option<BoxFuture<'static, ()>>,
        request: R,
        letters: Arc<Letters>,
    }
}

impl<F, R, T> Future for DeadLetterFuture<F, R>
where
    F: Future<Output = Result<T, HandlerError>>,
    R: StackRequest,
{
    type Output = Result<Option<T>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.writing.is_none() {
            match ready!(this.call.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(Some(response))),
                Err(error) => {
                    let letter = this.request.dead_letter(&this.letters.runtime, &error);
                    let store = Arc::clone(&this.letters.store);
                    *this.writing = Some(Box::pin(write(store, letter)));
                }
            }
        }
        let writing = this.writing.as_mut().expect("set above");
        ready!(writing.as_mut().poll(cx));
        this.letters.meter.dead_lettered();
        Poll::Ready(Ok(None))
    }
}

/// Tries until the letter is durable.
pub(super) async fn write(store: Arc<dyn DeadLetterStore>, letter: dead_letter::DeadLetter) {
    tracing::warn!(
        id = letter.id(),
        kind = letter.kind(),
        attempts = letter.attempts(),
        "dead letter"
    );
    // An error or a panic may quote the document.
    tracing::debug!(error = ?letter.error(), "what the dead letter says");
    crate::crash_point!("dead_letter.failed");
    let mut failures = 0;
    while let Err(error) = store.write(&letter).await {
        failures += 1;
        let wait = WRITE_BACKOFF.wait(failures);
        tracing::error!(
            error = error.brief(),
            ?wait,
            "the dead letter cannot be written; the event waits for it"
        );
        tokio::time::sleep(wait).await;
    }
    crate::crash_point!("dead_letter.written");
}
