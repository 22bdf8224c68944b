//! Puts the layers together.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use tower::{
    Service, ServiceExt,
    retry::Retry,
    util::{BoxCloneSyncService, Either, Oneshot},
};

use super::{
    Backoff, Batches, Breaker, CatchPanic, DeadLetter, Deduplicate, Deliver, Meter, Metrics,
    Outcome, RetryPolicy, SharedLayer, TargetSink, Timeout, Trace, Transact, deliver::Target,
    gate::Gate,
};
use crate::{
    dead_letter::DeadLetterStore,
    handler::{BoundHandler, BoxHandler, ChangeRequest, HandlerError, PolicyOverrides},
    health::HealthReporter,
    message::Message,
    processed::Transactions,
    sink::{BoxSink, Delivery, SinkSpec},
};

/// A handler within its whole stack.
pub(crate) type HandlerStack = BoxCloneSyncService<ChangeRequest, Outcome, Infallible>;

/// Makes the stack of a handler, for each lane one of its own: a call clones what is in it, and lanes on several processors would wait
/// for each other at a reference count that they share.
#[derive(Clone)]
pub(crate) struct HandlerStacks(Arc<dyn Fn() -> HandlerStack + Send + Sync>);

impl HandlerStacks {
    pub(crate) fn new(stack: impl Fn() -> HandlerStack + Send + Sync + 'static) -> Self {
        Self(Arc::new(stack))
    }

    pub(crate) fn stack(&self) -> HandlerStack {
        (self.0)()
    }
}

impl fmt::Debug for HandlerStacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerStacks").finish_non_exhaustive()
    }
}

/// A sink within its whole stack, which is always ready.
#[derive(Clone)]
pub(crate) struct SinkStack(Arc<dyn Fn(Delivery) -> BoxFuture<'static, Outcome> + Send + Sync>);

impl SinkStack {
    pub(crate) fn deliver(&self, delivery: Delivery) -> BoxFuture<'static, Outcome> {
        (self.0)(delivery)
    }
}

impl fmt::Debug for SinkStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkStack").finish_non_exhaustive()
    }
}

/// How attempts are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) backoff: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            retries: 3,
            backoff: Duration::from_secs(1),
        }
    }
}

impl Policy {
    /// The longest wait between two attempts, unless the first wait is longer.
    const MAX_BACKOFF: Duration = Duration::from_secs(60);

    fn overridden(self, by: PolicyOverrides) -> Self {
        Self {
            timeout: by.timeout.unwrap_or(self.timeout),
            retries: by.retries.unwrap_or(self.retries),
            backoff: by.backoff.unwrap_or(self.backoff),
        }
    }

    fn retry(self, meter: &Arc<Meter>) -> RetryPolicy {
        let backoff = Backoff::new(self.backoff, Self::MAX_BACKOFF.max(self.backoff));
        RetryPolicy::new(self.retries, backoff, Arc::clone(meter))
    }
}

pub(crate) fn handler_stacks(
    runtime: &Arc<str>,
    handler: BoundHandler,
    layers: &[SharedLayer<BoxHandler>],
    sinks: Vec<TargetSink>,
    policy: Policy,
    store: &Arc<dyn DeadLetterStore>,
    transactions: Option<&Transactions>,
) -> HandlerStacks {
    let layers = layers.iter().chain(&handler.layers);
    let parts = HandlerParts {
        runtime: Arc::clone(runtime),
        service: SharedLayer::apply_all(layers, handler.service.clone()),
        meter: Meter::new(runtime, "handler", &handler.name),
        policy: policy.overridden(handler.policy),
        store: Arc::clone(store),
        transactions: transactions.filter(|_| handler.needs.transaction).cloned(),
        handler,
        sinks,
    };
    HandlerStacks::new(move || parts.stack())
}

/// What the stacks of a handler are made of.
struct HandlerParts {
    runtime: Arc<str>,
    handler: BoundHandler,
    /// The handler within the user's layers.
    service: BoxHandler,
    sinks: Vec<TargetSink>,
    policy: Policy,
    store: Arc<dyn DeadLetterStore>,
    transactions: Option<Transactions>,
    meter: Arc<Meter>,
}

impl HandlerParts {
    fn stack(&self) -> HandlerStack {
        let meter = self.meter.of_lane();
        let attempt = bounded(self.service.of_lane(), self.policy);
        if self.handler.batch.is_some() {
            return self.of_batches(attempt, meter);
        }
        match &self.transactions {
            None => self.of_events(attempt, meter),
            Some(transactions) => {
                let attempt = Transact::new(
                    attempt,
                    Arc::clone(&self.runtime),
                    transactions.clone(),
                    !self.sinks.is_empty(),
                    self.policy.timeout,
                );
                self.of_events(attempt, meter)
            }
        }
    }

    fn of_batches(
        &self,
        attempt: Timeout<CatchPanic<BoxHandler>>,
        meter: Arc<Meter>,
    ) -> HandlerStack {
        let batches = Batches {
            attempt,
            runtime: Arc::clone(&self.runtime),
            policy: self.policy.retry(&meter),
            meter: Arc::clone(&meter),
            dead_letters: Arc::clone(&self.store),
            processed: self.handler.deduplicate.clone(),
        };
        HandlerStack::new(Trace::new(Metrics::new(batches, meter)))
    }

    fn of_events<S>(&self, attempt: S, meter: Arc<Meter>) -> HandlerStack
    where
        S: Service<ChangeRequest, Response = Vec<Message>, Error = HandlerError>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let service = DeadLetter::new(
            Retry::new(self.policy.retry(&meter), attempt),
            Arc::clone(&self.runtime),
            Arc::clone(&self.store),
            Arc::clone(&meter),
        )
        .always_ready(self.service.is_always_ready());
        let target = Target {
            runtime: Arc::clone(&self.runtime),
            key: self.handler.key.clone(),
            sinks: self.sinks.clone(),
        };
        let service = Deliver::new(service, target);
        let service = match &self.handler.deduplicate {
            None => Either::Left(service),
            Some(processed) => Either::Right(Deduplicate::new(
                service,
                Arc::clone(&self.runtime),
                Arc::clone(processed),
            )),
        };
        HandlerStack::new(Trace::new(Metrics::new(service, meter)))
    }
}

pub(crate) fn sink_stack(
    runtime: &Arc<str>,
    name: &str,
    sink: SinkSpec,
    store: &Arc<dyn DeadLetterStore>,
    health: &HealthReporter,
) -> SinkStack {
    let meter = Meter::new(runtime, "sink", name);
    let policy = Policy::default().overridden(sink.policy);
    let attempts = policy.retries.saturating_add(1);
    let breaker = Breaker::new(name, sink.on_down, attempts, health.clone());
    let service = SharedLayer::apply_all(sink.layers.iter(), sink.service);
    let service = SharedSink(Arc::new(service));
    // Who waits for its turn is admitted after that: the sink may have gone down meanwhile.
    let service = breaker.admitting(bounded(service, policy));
    let service = Gate::new(sink.concurrency).around(service);
    let service = breaker.pausing(Retry::new(policy.retry(&meter), service));
    let service = DeadLetter::new(
        service,
        Arc::clone(runtime),
        Arc::clone(store),
        Arc::clone(&meter),
    );
    let service = Trace::new(Metrics::new(service, meter));
    SinkStack(Arc::new(move |delivery| {
        let delivering = service.clone().oneshot(delivery);
        let outcome = |Ok(delivered)| match delivered {
            Some(()) => Outcome::Done,
            None => Outcome::DeadLettered,
        };
        delivering.map(outcome).boxed()
    }))
}

/// One attempt that is bounded and caught.
fn bounded<S>(service: S, policy: Policy) -> Timeout<CatchPanic<S>> {
    Timeout::new(CatchPanic::new(service), policy.timeout)
}

/// A sink that is cloned when it is called, and not with each of the layers around it.
#[derive(Clone)]
struct SharedSink(Arc<BoxSink>);

impl Service<Delivery> for SharedSink {
    type Response = ();
    type Error = HandlerError;
    type Future = Oneshot<BoxSink, Delivery>;

    /// Always ready: readiness of the sink is part of the call.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        BoxSink::clone(&self.0).oneshot(delivery)
    }
}
