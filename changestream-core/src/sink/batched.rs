use std::{
    fmt,
    future::{Future, pending},
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinSet,
};
use tower::{Service, ServiceExt};
use tracing::Instrument;

use super::Delivery;
use crate::{
    error::BoxError,
    handler::{Disposition, HandlerError},
};

/// Batches under way: one is made, and its results told, while the receiver works on the other.
const AT_ONCE: usize = 2;

/// Gathers deliveries for a service of batches; see [`SinkSpec::batched`](crate::SinkSpec::batched).
///
/// A batch is sent by a task of its own, as long as one of its deliveries waits for it.
#[derive(Clone)]
pub(super) struct Batched<S> {
    service: S,
    max: usize,
    open: Arc<Mutex<Option<Open>>>,
    sending: Arc<Semaphore>,
    /// Set where a delivery is given up whose batch goes on for others: what comes next of its key must not overtake it.
    is_given_up: Arc<AtomicBool>,
}

/// A batch that takes further deliveries.
struct Open {
    items: Items,
    sent: WeakShared<Sent>,
}

/// What is in a batch until it is sent: a delivery that is given up meanwhile leaves its place empty.
type Items = Arc<Mutex<Vec<Option<Delivery>>>>;

/// How each delivery of a batch fared, for it to take.
type Sent = BoxFuture<'static, Arc<Mutex<Vec<Result<(), HandlerError>>>>>;

/// A delivery's place in a batch.
struct Place {
    items: Items,
    index: usize,
    sent: Shared<Sent>,
    is_given_up: Arc<AtomicBool>,
}

impl<S> Batched<S>
where
    S: Service<Vec<Delivery>, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    pub(super) fn new(max: usize, service: S) -> Self {
        assert!(max > 0, "a batch has room for a delivery at least");
        Self {
            service,
            max,
            open: Arc::default(),
            sending: Arc::new(Semaphore::new(AT_ONCE)),
            is_given_up: Arc::default(),
        }
    }

    fn join(&self, delivery: Delivery) -> Place {
        let mut open = lock(&self.open);
        let found = open.as_ref().and_then(|open| {
            let sent = open.sent.upgrade()?;
            Some((Arc::clone(&open.items), sent))
        });
        let (items, sent) = found.unwrap_or_else(|| {
            let (items, sent) = self.batch();
            *open = sent.downgrade().map(|sent| Open {
                items: Arc::clone(&items),
                sent,
            });
            (items, sent)
        });
        let index = {
            let mut items = lock(&items);
            items.push(Some(delivery));
            items.len() - 1
        };
        if index + 1 == self.max {
            *open = None;
        }
        Place {
            items,
            index,
            sent,
            is_given_up: Arc::clone(&self.is_given_up),
        }
    }

    fn batch(&self) -> (Items, Shared<Sent>) {
        let items = Items::default();
        let (batched, to_send) = (self.clone(), Arc::clone(&items));
        let mut sending = JoinSet::new();
        let send = async move {
            let (_permit, items) = batched.admit(&to_send).await;
            send(&batched.service, items).await
        };
        sending.spawn(send.in_current_span());
        let sent = async move {
            match sending.join_next().await {
                Some(Ok(results)) => Arc::new(Mutex::new(results)),
                Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
                // The program ends.
                Some(Err(_)) | None => pending().await,
            }
        };
        (items, sent.boxed().shared())
    }

    /// Waits until a batch may be sent: what is in it by then.
    async fn admit(&self, items: &Items) -> (SemaphorePermit<'_>, Vec<Option<Delivery>>) {
        const OPEN: &str = "it is never closed";
        let permit = self.sending.acquire().await.expect(OPEN);
        let items = self.close(items);
        if !self.is_given_up.load(Relaxed) {
            return (permit, items);
        }
        drop(permit);
        let all = self.sending.acquire_many(AT_ONCE as u32).await;
        self.is_given_up.store(false, Relaxed);
        (all.expect(OPEN), items)
    }

    /// Takes what is in a batch, and lets nothing else in.
    fn close(&self, items: &Items) -> Vec<Option<Delivery>> {
        lock(&self.open).take_if(|open| Arc::ptr_eq(&open.items, items));
        std::mem::take(&mut lock(items))
    }
}

/// Sends a batch: what became of each of its places.
async fn send<S>(service: &S, items: Vec<Option<Delivery>>) -> Vec<Result<(), HandlerError>>
where
    S: Service<Vec<Delivery>, Response = ()> + Clone,
    S::Error: Into<BoxError>,
{
    let mut results: Vec<_> = items.iter().map(|_| Ok(())).collect();
    let (places, deliveries): (Vec<_>, Vec<_>) = items
        .into_iter()
        .enumerate()
        .filter_map(|(place, delivery)| Some((place, delivery?)))
        .unzip();
    let Err(error) = call(service, deliveries.clone()).await else {
        return results;
    };
    let error = match error.into_partial() {
        Ok(partial) => match partial.misplaced(places.len()) {
            None => {
                for (index, error) in partial.failed {
                    results[places[index]] = Err(error);
                }
                return results;
            }
            Some(index) => HandlerError::retry(format!(
                "the sink says that delivery {index} failed, of a batch of {} whose first is 0: all of them count as \
                 failed",
                places.len()
            )),
        },
        Err(error) => error,
    };
    if error.disposition() == Disposition::Reject && places.len() > 1 {
        for (place, delivery) in places.into_iter().zip(deliveries) {
            results[place] = call(service, vec![delivery]).await;
        }
        return results;
    }
    let error = error.into_shared();
    for place in places {
        results[place] = Err(error());
    }
    results
}

async fn call<S>(service: &S, batch: Vec<Delivery>) -> Result<(), HandlerError>
where
    S: Service<Vec<Delivery>, Response = ()> + Clone,
    S::Error: Into<BoxError>,
{
    match batch.is_empty() {
        true => Ok(()),
        false => {
            let sent = service.clone().oneshot(batch).await;
            sent.map_err(|error| HandlerError::from_layer(error.into()))
        }
    }
}

impl<S> Service<Delivery> for Batched<S>
where
    S: Service<Vec<Delivery>, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = ();
    type Error = HandlerError;
    type Future = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

    /// Always ready: readiness of the service is part of sending a batch.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let place = self.join(delivery);
        Box::pin(async move {
            let results = place.sent.clone().await;
            std::mem::replace(&mut lock(&results)[place.index], Ok(()))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match lock(&self.items).get_mut(self.index) {
            Some(item) => *item = None,
            None if self.sent.peek().is_none() => self.is_given_up.store(true, Relaxed),
            None => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> fmt::Debug for Batched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batched")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
