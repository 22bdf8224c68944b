use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll},
};

use futures::future::{BoxFuture, FutureExt, join_all, ready};
use pin_project_lite::pin_project;
use tower::Service;

use super::{Outcome, SinkStack};
use crate::{
    filter::FieldPath,
    handler::ChangeRequest,
    lane::Turn,
    message::Message,
    sink::{BoundRoute, Delivery},
};

/// Sends what a handler returned to its sinks: to each sink in order, to the sinks side by side. The lane goes to others
/// meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Deliver<S> {
    inner: S,
    target: Arc<Target>,
}

/// Where a handler's messages go.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<str>,
    pub(crate) key: Option<FieldPath>,
    pub(crate) sinks: Vec<TargetSink>,
}

#[derive(Clone, Debug)]
pub(crate) struct TargetSink {
    pub(crate) name: Arc<str>,
    pub(crate) stack: SinkStack,
    /// What may lead a message there, where the handler itself does not.
    pub(crate) routes: Option<Arc<[BoundRoute]>>,
}

impl TargetSink {
    fn wants(&self, delivery: &Delivery) -> bool {
        let routes = self.routes.as_ref();
        routes.is_none_or(|routes| routes.iter().any(|route| route.leads(delivery)))
    }
}

impl<S> Deliver<S> {
    pub(crate) fn new(inner: S, target: Target) -> Self {
        Self {
            inner,
            target: Arc::new(target),
        }
    }
}

impl<S> Service<ChangeRequest> for Deliver<S>
where
    S: Service<ChangeRequest, Response = Option<Vec<Message>>, Error = Infallible>,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = DeliverFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: ChangeRequest) -> Self::Future {
        let has_sinks = !self.target.sinks.is_empty();
        let destined = has_sinks.then(|| Destined {
            request: request.clone(),
            target: Arc::clone(&self.target),
        });
        DeliverFuture {
            handling: self.inner.call(request),
            delivering: None,
            destined,
            turn: None,
        }
    }
}

pin_project! {
    pub(crate) struct DeliverFuture<F> {
        #[pin]
        handling: F,
        delivering: Option<BoxFuture<'static, Outcome>>,
        // Where messages go, if anywhere.
        destined: Option<Destined>,
        // From when messages are delivered until that waits.
        turn: Option<Turn>,
    }
}

/// What a handler is called with whose messages are delivered, and where to.
struct Destined {
    request: ChangeRequest,
    target: Arc<Target>,
}

impl<F> Future for DeliverFuture<F>
where
    F: Future<Output = Result<Option<Vec<Message>>, Infallible>>,
{
    type Output = Result<Outcome, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.delivering.is_none() {
            let messages = match task::ready!(this.handling.poll(cx))? {
                None => return Poll::Ready(Ok(Outcome::DeadLettered)),
                Some(messages) => messages,
            };
            let destined = this.destined.take().filter(|_| !messages.is_empty());
            let Some(Destined { request, target }) = destined else {
                return Poll::Ready(Ok(Outcome::Done));
            };
            *this.delivering = Some(deliver(&target, &request, messages));
            *this.turn = Some(request.turn);
        }
        let delivering = this.delivering.as_mut().expect("set above");
        let outcome = delivering.as_mut().poll(cx);
        if outcome.is_pending()
            && let Some(turn) = this.turn.take()
        {
            turn.leave();
        }
        outcome.map(Ok)
    }
}

fn deliver(
    target: &Target,
    request: &ChangeRequest,
    messages: Vec<Message>,
) -> BoxFuture<'static, Outcome> {
    let sinks = match target.sinks.as_slice() {
        [sink] => return deliver_to(sink, target, request, messages),
        sinks => sinks,
    };
    let delivering = sinks
        .iter()
        .map(|sink| deliver_to(sink, target, request, messages.clone()));
    let outcomes = join_all(delivering);
    outcomes
        .map(|outcomes| outcomes.into_iter().fold(Outcome::Done, Outcome::and))
        .boxed()
}

/// In order.
fn deliver_to(
    sink: &TargetSink,
    target: &Target,
    request: &ChangeRequest,
    messages: Vec<Message>,
) -> BoxFuture<'static, Outcome> {
    let deliveries = messages.into_iter().enumerate().map(|(index, message)| {
        let name = Arc::clone(&sink.name);
        Delivery::new(message, request, target, name, index)
    });
    let mut deliveries = deliveries.filter(|delivery| sink.wants(delivery));
    let first = match deliveries.next() {
        None => return ready(Outcome::Done).boxed(),
        Some(first) => sink.stack.deliver(first),
    };
    let others: Vec<_> = deliveries.collect();
    if others.is_empty() {
        return first;
    }
    let stack = sink.stack.clone();
    async move {
        let mut outcome = first.await;
        for delivery in others {
            outcome = outcome.and(stack.deliver(delivery).await);
        }
        outcome
    }
    .boxed()
}
