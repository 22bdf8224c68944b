use std::{
    error::Error,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use changestream::prelude::*;
use futures::{
    StreamExt,
    future::{try_join, try_join3},
};
use mongodb::{
    Client,
    change_stream::{ChangeStream, event::ChangeStreamEvent},
    options::WriteConcern,
};
use tokio::{
    sync::{Notify, mpsc::channel},
    task::yield_now,
    time::interval,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, retry::Policy, service_fn};

use crate::{
    Figures, Result,
    backlog::{Backlog, Item, collection, first_id},
    comparison::{Bound, Comparison, Contestant, Job, Target},
    live::{PERIOD, percentiles},
    measure::Measure,
    sdk::{self, Handled},
};

pub(crate) fn comparison(events: u64) -> Comparison {
    let target = |what, measure| Target {
        what,
        measure,
        of: 1,
        against: Some(0),
        bound: Bound::AtMost(1.1),
    };
    Comparison {
        name: "latency".into(),
        about: "200 inserts/s with majority write concern, by the process that handles them; \
                an event that comes before the acknowledgement counts as 0, in ratios as 1 us"
            .into(),
        receiver: None,
        backlog: Backlog::Empty,
        events: events / 100,
        contestants: vec![
            Contestant::new("driver, typed", with_driver),
            Contestant::new("changestream", with_changestream),
            Contestant::new("driver, typed, reading ahead", ahead),
            Contestant::new("the same, tower's retry and timeout", ahead_with_tower),
        ],
        columns: vec![
            Measure::LatencyP50,
            Measure::LatencyP99,
            Measure::FromWriteP50,
            Measure::FromWriteP99,
        ],
        targets: vec![
            target("p50 from acknowledgement", Measure::LatencyP50),
            target("p99 from acknowledgement", Measure::LatencyP99),
            target("p50 from write", Measure::FromWriteP50),
            target("p99 from write", Measure::FromWriteP99),
        ],
        plot: None,
    }
}

/// When what happened to each item, in nanoseconds from one clock.
#[derive(Clone)]
struct Times(Arc<Inner>);

struct Inner {
    clock: Instant,
    items: Vec<ItemTimes>,
    left: AtomicU64,
    all: Notify,
}

#[derive(Default)]
struct ItemTimes {
    written: AtomicU64,
    acknowledged: AtomicU64,
    handled: AtomicU64,
}

impl Times {
    fn new(items: u64) -> Self {
        Self(Arc::new(Inner {
            clock: Instant::now(),
            items: (0..items).map(|_| ItemTimes::default()).collect(),
            left: AtomicU64::new(items),
            all: Notify::new(),
        }))
    }

    fn note(&self, place: &AtomicU64) {
        let nanos = u64::try_from(self.0.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        place.store(nanos, Ordering::Relaxed);
    }

    fn handled(&self, item: &Item) {
        // Items of an earlier run are not of this one.
        let Some(times) = item
            .id
            .checked_sub(first_id())
            .and_then(|n| self.0.items.get(n as usize))
        else {
            return;
        };
        self.note(&times.handled);
        if self.0.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.all.notify_one();
        }
    }

    fn figures(&self) -> Figures {
        let since = |from: fn(&ItemTimes) -> &AtomicU64| {
            let micros = self.0.items.iter().map(|item| {
                let handled = item.handled.load(Ordering::Relaxed);
                let nanos = handled.saturating_sub(from(item).load(Ordering::Relaxed));
                nanos as f64 / 1e3
            });
            percentiles(micros.collect())
        };
        let (p50, p99) = since(|item| &item.acknowledged);
        let (write_p50, write_p99) = since(|item| &item.written);
        Figures::from([
            (Measure::LatencyP50, p50),
            (Measure::LatencyP99, p99),
            (Measure::FromWriteP50, write_p50),
            (Measure::FromWriteP99, write_p99),
        ])
    }
}

/// Writes all items, and waits until they are handled.
async fn write(job: &Job, times: &Times) -> Result<Figures> {
    // The stream's client has a connection that is taken; this one has none to wait for.
    let client = Client::with_uri_str(crate::server_uri()?).await?;
    let database = client.database(job.database.name());
    let items = database.collection::<Item>(&collection(0));
    let mut clock = interval(PERIOD);
    for (id, item) in (first_id()..).zip(&times.0.items) {
        clock.tick().await;
        times.note(&item.written);
        items
            .insert_one(Item::new(id, Item::LEAST_BYTES))
            .write_concern(WriteConcern::majority())
            .await?;
        times.note(&item.acknowledged);
    }
    times.0.all.notified().await;
    Ok(times.figures())
}

async fn with_driver(job: Job) -> Result<Figures> {
    let times = Times::new(job.events);
    let stream = watch(&job).await?;
    let handling = times.clone();
    let read = read(stream, job.events, async move |item| {
        handling.handled(&item)
    });
    let read = tokio::spawn(read);
    let (figures, ()) = try_join(write(&job, &times), async { Ok(read.await??) }).await?;
    Ok(figures)
}

/// The same, reading ahead of the handler, for which it takes a task of its own. It hands on what it has before it asks for more.
async fn ahead(job: Job) -> Result<Figures> {
    let times = Times::new(job.events);
    let handling = times.clone();
    let handler = service_fn(move |item: Item| {
        handling.handled(&item);
        ready(Ok::<_, BoxError>(()))
    });
    read_ahead(job, times, handler).await
}

/// With what tower has of this crate's stack around the handler.
async fn ahead_with_tower(job: Job) -> Result<Figures> {
    let times = Times::new(job.events);
    let handling = times.clone();
    let handler = service_fn(move |item: Arc<Item>| {
        handling.handled(&item);
        ready(Ok::<_, BoxError>(()))
    });
    let handler = ServiceBuilder::new()
        .map_request(Arc::new)
        .retry(Retries(3))
        .timeout(Duration::from_secs(30))
        .service(handler);
    read_ahead(job, times, handler).await
}

async fn read_ahead<H>(job: Job, times: Times, mut handler: H) -> Result<Figures>
where
    H: Service<Item, Response = (), Error = BoxError, Future: Send> + Send + 'static,
{
    let stream = watch(&job).await?;
    let (send, mut sent) = channel(1);
    let handle = tokio::spawn(async move {
        while let Some(item) = sent.recv().await {
            handler.ready().await?.call(item).await?;
        }
        Ok::<_, BoxError>(())
    });
    let read = read(stream, job.events, async move |item| {
        send.send(item).await.ok();
        yield_now().await;
    });
    let read = tokio::spawn(read);
    let read = async { Ok(read.await??) };
    let handled = async { handle.await?.map_err(|error| -> Box<dyn Error> { error }) };
    let (figures, (), ()) = try_join3(write(&job, &times), read, handled).await?;
    Ok(figures)
}

/// Tries again so many times.
#[derive(Clone)]
struct Retries(u32);

impl<E> Policy<Arc<Item>, (), E> for Retries {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Arc<Item>,
        outcome: &mut std::result::Result<(), E>,
    ) -> Option<Self::Future> {
        outcome.as_ref().err()?;
        self.0 = self.0.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, item: &Arc<Item>) -> Option<Arc<Item>> {
        Some(Arc::clone(item))
    }
}

async fn watch(job: &Job) -> mongodb::error::Result<ChangeStream<ChangeStreamEvent<Item>>> {
    let items = job.database.collection::<Item>(&collection(0));
    items.watch().await
}

async fn read(
    mut stream: ChangeStream<ChangeStreamEvent<Item>>,
    events: u64,
    mut handle: impl AsyncFnMut(Item),
) -> mongodb::error::Result<()> {
    for _ in 0..events {
        if let Some(event) = stream.next().await
            && let Some(item) = event?.full_document
        {
            handle(item).await;
        }
    }
    Ok(())
}

#[on_change(coll = "items", op = "insert")]
async fn item_timed(FullDocument(item): FullDocument<Item>, State(times): State<Times>) -> Handled {
    times.handled(&item);
    Ok(())
}

async fn with_changestream(job: Job) -> Result<Figures> {
    let times = Times::new(job.events);
    let runtime = Runtime::builder(job.database.clone())
        .name(format!("bench-{}", std::process::id()))
        .state(times.clone())
        .handlers(handlers![item_timed])
        .build()?;
    let health = runtime.health();
    sdk::run_until(runtime, async {
        health.ready().await;
        write(&job, &times).await
    })
    .await
}
