use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::service_fn;

use super::{
    behaviour::{attempt, attempt_batch, rng_at},
    oracle::{Oracle, Part},
    store::Faulty,
    world::{
        COLLECTIONS, Ending, SINK_CONCURRENCY, SINKS, World, millis, percent, position, token,
    },
};
use crate::{
    Attempt, CheckpointStore, Claimed, Delivery, Error, HandlerError, HandlerSpec,
    MemoryCheckpoints, MemoryDeadLetters, MemoryLeases, Message, OnSinkDown, Operation, RawChange,
    ResumeToken, SinkSpec,
    builder::RuntimeBuilder,
    checkpoint::{Checkpointer, TokenKind},
    engine::{Drive, Engine},
    health::HealthReporter,
    running::Running,
    shutdown::stopped,
    snapshot::{Incoming, MemorySnapshots, Windows},
    source::{Batch, Mark},
    testing::change::DATABASE,
};

/// More than all attempts, waits and faults of a world can take one after the other.
const A_LONG_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The stores, which outlive the runtime.
#[derive(Clone)]
struct Stores {
    checkpoints: Faulty<MemoryCheckpoints>,
    dead_letters: Faulty<MemoryDeadLetters>,
}

/// Starts the runtime again and again, until all is done.
pub(super) async fn live_all(world: &Arc<World>, oracle: &Arc<Oracle>) {
    let stores = Stores {
        checkpoints: Faulty::new(MemoryCheckpoints::default(), oracle, 1),
        dead_letters: Faulty::new(MemoryDeadLetters::default(), oracle, 2),
    };
    let lives = world.endings.iter().copied().map(Some).chain([None]);
    let all = async {
        for (life, ending) in (1..).zip(lives) {
            live(world, oracle, &stores, life, ending).await;
        }
    };
    if timeout(A_LONG_TIME, all).await.is_err() {
        oracle.hangs();
    }
}

/// From a start to its end; without an ending, to when all is done.
async fn live(
    world: &Arc<World>,
    oracle: &Arc<Oracle>,
    stores: &Stores,
    life: u32,
    ending: Option<Ending>,
) {
    let epoch = i64::from(life);
    let claimed = stores.checkpoints.claim("test", epoch).await;
    let Ok(Claimed::Yes(checkpoint)) = claimed else {
        panic!("each life has an epoch of its own");
    };
    let from = checkpoint.token().map_or(0, position);
    oracle.life_begins(life, from);

    let config = world.config;
    let runtime: Arc<str> = "test".into();
    let health = HealthReporter::new(&runtime);
    let (batches_in, batches) = mpsc::channel(1);
    let (marks_in, marks) = mpsc::channel(1);
    let (stop, stopping) = watch::channel(false);
    // Nobody reads snapshots.
    let (_chunks_in, chunks) = mpsc::channel(1);
    let windows = Arc::<Windows>::default();
    let (_failure_in, failure) = mpsc::channel(1);
    let checkpointer = Checkpointer {
        partitioning: None,
        store: Arc::new(stores.checkpoints.clone()),
        runtime,
        fingerprint: String::new(),
        epoch,
        sequence: checkpoint.sequence,
        patience: config.reply_timeout,
        health: health.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(checkpointer.run(marks));
    tasks.spawn(source(Arc::clone(world), life, from, batches_in, stopping));
    let engine = engine(world, oracle, stores, life);
    let running = Running {
        drive: Drive::new(
            engine,
            Incoming::new(chunks, windows),
            marks_in,
            config,
            &Arc::from("test"),
            health.clone(),
        ),
        batches,
        stop,
        tasks,
        failure,
        config,
        health,
    };
    let shutdown = async {
        match ending {
            Some(Ending { stop: Some(at), .. }) => sleep(at).await,
            Some(Ending { stop: None, .. }) => std::future::pending().await,
            None => oracle.all_done().await,
        }
        oracle.stop();
    };
    let crash = async {
        match ending.and_then(|ending| ending.crash) {
            Some(at) => sleep(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = crash => oracle.crashed(),
        result = running.run(shutdown, std::future::pending()) => oracle.ended(&result),
    }
}

/// Reads the events after `from`, cut into batches anew in each life.
async fn source(
    world: Arc<World>,
    life: u32,
    from: u32,
    batches: mpsc::Sender<Batch>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let rng = &mut rng_at(world.seed, &[0, life]);
    let mut index = world.events.partition_point(|event| event.position <= from);
    let mut at = from;
    let script = async {
        loop {
            if rng.bool() {
                sleep(millis(rng, 0, 300)).await;
            }
            let rest = &world.events[index..];
            let count = rng.usize(0..=12).min(rest.len());
            let events: Vec<_> = rest[..count]
                .iter()
                .map(|event| event.change.clone())
                .collect();
            index += count;
            if let Some(last) = count.checked_sub(1) {
                at = rest[last].position;
            }
            // The stream goes on to somewhere before the next event.
            let next = rest.get(count).map_or(at + 3, |event| event.position);
            at = rng.u32(at..next.max(at + 1));
            let is_silent = events.is_empty() && percent(rng, 50);
            let end = (!is_silent)
                .then(|| Mark::Token(ResumeToken::new(token(at)), TokenKind::StartAfter));
            if events.is_empty() {
                // As the server, which waits for events before it replies with none.
                sleep(Duration::from_millis(200)).await;
            }
            if batches.send(Batch::scripted(events, end)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = stopped(&mut stop) => {}
        () = script => {}
    }
    Ok(())
}

fn engine(world: &Arc<World>, oracle: &Arc<Oracle>, stores: &Stores, life: u32) -> Engine {
    let specs = (0..world.handlers.len()).map(|index| handler(world, oracle, life, index));
    let mut builder = RuntimeBuilder::new(())
        .name("test")
        .timeout(world.config.policy.timeout)
        .retries(world.config.policy.retries)
        .backoff(world.config.policy.backoff)
        .handlers(specs)
        .reply_timeout(world.config.reply_timeout)
        .dead_letter_store(stores.dead_letters.clone());
    for (index, name) in SINKS.into_iter().enumerate() {
        builder = builder.sink(name, sink(world, oracle, life, index));
    }
    let parts = builder.into_parts(
        |()| Arc::new(stores.checkpoints.clone()),
        |()| Arc::new(stores.dead_letters.clone()),
        |()| Arc::new(MemoryLeases::default()),
        |()| Arc::new(MemorySnapshots::default()),
    );
    let ((), parts) = parts.expect("a valid runtime");
    parts.into_engine(DATABASE)
}

fn handler(world: &World, oracle: &Arc<Oracle>, life: u32, index: usize) -> HandlerSpec<()> {
    let plan = &world.handlers[index];
    let collections = plan.collections.iter().map(|index| COLLECTIONS[*index]);
    let operations = [Operation::Insert, Operation::Drop];
    let oracle = Arc::clone(oracle);
    if let Some((max, within)) = plan.batch {
        let max = max.min(world.config.in_flight_events);
        let handle = move |batch: Vec<RawChange>, number: Attempt| {
            let events = batch.iter().map(|change| oracle.event_at(&change.token()));
            attempt_batch(Arc::clone(&oracle), life, events.collect(), index, number.0)
        };
        return HandlerSpec::batch(&plan.name, max, within, handle)
            .operations(operations)
            .collections(collections);
    }
    let has_sinks = !plan.sinks.is_empty();
    let handle = move |change: RawChange, number: Attempt| {
        let oracle = Arc::clone(&oracle);
        async move {
            let event = oracle.event_at(&change.token());
            attempt(oracle, life, event, index, Part::Handler, number.0).await?;
            let message = || Message::new("done", "text/plain");
            Ok::<Vec<Message>, HandlerError>(has_sinks.then(message).into_iter().collect())
        }
    };
    let spec = HandlerSpec::new(&plan.name, handle)
        .operations(operations)
        .collections(collections)
        .to(plan.sinks.iter().map(|index| SINKS[*index]));
    match plan.by_group {
        true => spec.key("group"),
        false => spec,
    }
}

fn sink(world: &World, oracle: &Arc<Oracle>, life: u32, index: usize) -> SinkSpec {
    let names: Vec<_> = world
        .handlers
        .iter()
        .map(|handler| handler.name.clone())
        .collect();
    let oracle = Arc::clone(oracle);
    let policy = world.config.policy;
    let deliver = service_fn(move |delivery: Delivery| {
        let oracle = Arc::clone(&oracle);
        let handler = names.iter().position(|name| name == delivery.handler());
        async move {
            let event = oracle.event_at(&delivery.change().token());
            let handler = handler.expect("a handler of this world");
            let number = delivery.attempt().0;
            attempt(oracle, life, event, handler, Part::Sink(index), number).await
        }
    });
    // An attempt of one number ends as it did before: who waits would wait for good.
    SinkSpec::new(deliver)
        .on_down(OnSinkDown::DeadLetter)
        .concurrency(SINK_CONCURRENCY)
        .timeout(policy.timeout)
        .retries(policy.retries)
        .backoff(policy.backoff)
}
