//! This crate with its whole default stack, as a user sets it up.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use changestream::{Operation, RuntimeBuilder, StartAt, prelude::*};
use tokio::sync::Notify;

use crate::{
    Figures, Result,
    backlog::{Item, collection},
    comparison::Job,
    measure::Meter,
};

pub(crate) type Handled = std::result::Result<(), HandlerError>;

/// The handlers' state: counts events until all are there.
#[derive(Clone)]
pub(crate) struct Seen(Arc<Count>);

struct Count {
    expected: u64,
    seen: AtomicU64,
    all: Notify,
}

impl Seen {
    pub(crate) fn expecting(events: u64) -> Self {
        Self(Arc::new(Count {
            expected: events,
            seen: AtomicU64::new(0),
            all: Notify::new(),
        }))
    }

    pub(crate) fn one(&self) {
        let before = self.0.seen.fetch_add(1, Ordering::Relaxed);
        if before + 1 == self.0.expected {
            self.0.all.notify_one();
        }
    }

    pub(crate) async fn all(&self) {
        self.0.all.notified().await;
    }

    /// How many are not there.
    pub(crate) fn missing(&self) -> u64 {
        let seen = self.0.seen.load(Ordering::Relaxed);
        self.0.expected.saturating_sub(seen)
    }
}

#[on_change(coll = "items", op = "insert")]
pub(crate) async fn item_inserted(
    FullDocument(item): FullDocument<Item>,
    State(seen): State<Seen>,
) -> Handled {
    std::hint::black_box(item.quantity);
    seen.one();
    Ok(())
}

/// A handler of inserts into these collections.
pub(crate) fn inserts(
    name: String,
    collections: impl IntoIterator<Item = usize>,
) -> HandlerSpec<Seen> {
    HandlerSpec::new(name, item_inserted)
        .collections(collections.into_iter().map(collection))
        .operations([Operation::Insert])
}

pub(crate) async fn typed(job: Job) -> Result<Figures> {
    drain(job, handlers![item_inserted], |builder| builder).await
}

/// Drains with these handlers, of which one gets each event.
pub(crate) async fn drain(
    job: Job,
    handlers: Vec<HandlerSpec<Seen>>,
    configure: impl FnOnce(RuntimeBuilder<Seen>) -> RuntimeBuilder<Seen>,
) -> Result<Figures> {
    let expected = job.events;
    drain_until(job, expected, handlers, configure).await
}

/// Drains until the handlers have been called so often.
pub(crate) async fn drain_until(
    job: Job,
    calls: u64,
    handlers: Vec<HandlerSpec<Seen>>,
    configure: impl FnOnce(RuntimeBuilder<Seen>) -> RuntimeBuilder<Seen>,
) -> Result<Figures> {
    let meter = Meter::start(&job.client).await?;
    let seen = Seen::expecting(calls);
    let builder = builder(&job, seen.clone()).handlers(handlers);
    run_until(configure(builder).build()?, async {
        seen.all().await;
        meter.stop(job.events).await
    })
    .await
}

pub(crate) fn builder<S: Send + Sync + 'static>(job: &Job, state: S) -> RuntimeBuilder<S> {
    // A name that no other process has had: none finds a checkpoint or waits for a lease.
    Runtime::builder(job.database.clone())
        .name(format!("bench-{}", std::process::id()))
        .state(state)
        .start_at(StartAt::OperationTime(ClusterTime(job.start)))
}

/// Runs until `measured` is there.
pub(crate) async fn run_until<T>(
    runtime: Runtime,
    measured: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut outcome = None;
    let measured = pin!(measured);
    runtime
        .run_until(async { outcome = Some(measured.await) })
        .await?;
    outcome.ok_or("the runtime stopped early")?
}
