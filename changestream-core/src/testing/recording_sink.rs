use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tower::Service;

use super::change;
use crate::{
    event::RawChange,
    handler::{ChangeRequest, HandlerError},
    lane::Turn,
    layer::Target,
    message::Message,
    sink::{BoxSink, Delivery, SinkSpec},
};

/// A sink that takes everything and remembers it. Clones share what they remember.
#[derive(Clone, Debug, Default)]
pub struct RecordingSink {
    record: Arc<Mutex<Record>>,
}

#[derive(Debug, Default)]
struct Record {
    deliveries: Vec<Delivery>,
    failures: u32,
}

impl RecordingSink {
    /// What was delivered so far, oldest first; failed attempts are not in it.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.lock().deliveries.clone()
    }

    /// Forgets what was delivered so far.
    pub fn clear(&self) {
        self.lock().deliveries.clear();
    }

    /// Makes the next `attempts` attempts fail, so that they are retried.
    pub fn fail_next(&self, attempts: u32) {
        self.lock().failures = attempts;
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Delivery> for RecordingSink {
    type Response = ();
    type Error = HandlerError;
    type Future = Ready<Result<(), HandlerError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let mut record = self.lock();
        if record.failures > 0 {
            record.failures -= 1;
            return ready(Err(HandlerError::retry("the sink was told to fail")));
        }
        record.deliveries.push(delivery);
        ready(Ok(()))
    }
}

/// A delivery of `message`, to call a sink with: from handler `handler` of runtime `test` to sink `sink`,
/// about an insert into `orders`.
pub fn delivery(message: Message) -> Delivery {
    delivery_of(change::insert("orders"), message)
}

/// The same about another event.
pub fn delivery_of(change: impl Into<RawChange>, message: Message) -> Delivery {
    let target = Target {
        runtime: "test".into(),
        key: None,
        sinks: Vec::new(),
    };
    let request = ChangeRequest::new(change.into(), "handler".into(), Turn::default());
    Delivery::new(message, &request, &target, "sink".into(), 0)
}

/// A sink alone, as a service: without its layers, retries and the rest of what a runtime puts around it.
pub fn service(sink: impl Into<SinkSpec>) -> BoxSink {
    sink.into().service
}
