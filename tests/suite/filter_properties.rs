//! Filters on a real server: the two back ends answer alike, and the merged pipeline loses nothing.
//!
//! One random script of writes is run and its events are kept; then random filters and handlers are asked
//! about each of them. A filter that the two back ends disagree on is made as small as it gets. The run is
//! the same each time; `CHANGESTREAM_SEED`, a number, gives another one.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use bson::{Bson, RawDocumentBuf};
use changestream::{
    ClusterTime, EventId, Filter, HandlerError, HandlerSpec, MemoryCheckpoints, MemoryDeadLetters,
    OnOversizeEvent, Operation, PreImage, Runtime, StartAt,
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tokio::sync::Notify;

use crate::support::{
    event_log::{Events, Log},
    random::{self, Wish},
};

const WRITES: usize = 1_000;
const STORED_FILTERS: usize = 400;
const STREAMED_FILTERS: usize = 40;
const HANDLER_SETS: usize = 60;
const RUNTIMES: usize = 8;

pub(crate) fn runner(salt: u8) -> TestRunner {
    let seed = std::env::var("CHANGESTREAM_SEED").ok();
    let seed: u64 = seed.map_or(1, |seed| {
        seed.parse().expect("CHANGESTREAM_SEED is a number")
    });
    eprintln!("CHANGESTREAM_SEED={seed}");
    let mut bytes = [salt; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}

pub(crate) fn draw<T: std::fmt::Debug>(
    strategy: &impl Strategy<Value = T>,
    runner: &mut TestRunner,
) -> T {
    let tree = strategy.new_tree(runner);
    tree.expect("nothing is filtered out").current()
}

pub(crate) async fn random_log(runner: &mut TestRunner) -> Log {
    let mut script = draw(&random::inserts(), runner);
    script.extend((0..WRITES).map(|_| draw(&random::write(), runner)));
    Log::of(script).await
}

#[derive(Clone, Copy, Debug)]
enum Server {
    /// The stages in an ordinary aggregate over the stored events.
    Stored,
    /// The stages behind `$changeStream`, which the server rewrites for its scan of the oplog.
    Streamed,
}

impl Server {
    /// The server's answer and the local one.
    async fn answers(self, log: &Log, filter: &Filter) -> (Events, Events) {
        let (server, known) = match self {
            Self::Stored => (log.stored(&filter.stages()).await, log.all()),
            Self::Streamed => (log.streamed(&filter.stages()).await, log.streamable()),
        };
        let matches = |place: &usize| filter.matches(&log.events[*place]);
        (server, known.into_iter().filter(matches).collect())
    }
}

#[tokio::test]
async fn server_and_local_filters_agree() {
    let mut runner = runner(1);
    let log = random_log(&mut runner).await;
    log.assert_varied();
    let filters = random::filter(&log.databases);
    for (server, count) in [
        (Server::Stored, STORED_FILTERS),
        (Server::Streamed, STREAMED_FILTERS),
    ] {
        let (mut pairs, mut matched) = (0, 0);
        for _ in 0..count {
            let mut tree = filters.new_tree(&mut runner).expect("a filter");
            let (theirs, ours) = server.answers(&log, &tree.current()).await;
            if theirs != ours {
                shrink(server, &log, &mut tree).await;
                report(server, &log, &tree.current()).await;
            }
            pairs += log.events.len();
            matched += ours.len();
        }
        eprintln!("{server:?}: {pairs} pairs of filter and event, {matched} matched");
        assert!(pairs >= 2_000);
        assert!(matched > pairs / 10 && matched < pairs * 9 / 10);
    }
}

/// Leaves `tree` at the smallest filter found that the back ends still disagree on.
async fn shrink(server: Server, log: &Log, tree: &mut impl ValueTree<Value = Filter>) {
    let mut moved = tree.simplify();
    while moved {
        let (theirs, ours) = server.answers(log, &tree.current()).await;
        moved = match theirs == ours {
            true => tree.complicate(),
            false => tree.simplify(),
        };
    }
}

async fn report(server: Server, log: &Log, filter: &Filter) {
    let (theirs, ours) = server.answers(log, filter).await;
    let event = theirs.symmetric_difference(&ours).next();
    let event = *event.expect("the smallest filter is one that they disagree on");
    panic!(
        "{server:?}: the server says {}, the local filter {}\nfilter: {filter:?}\nstages: {}\nevent: {}",
        theirs.contains(&event),
        ours.contains(&event),
        Bson::from(filter.stages()),
        log.text(event),
    );
}

#[tokio::test]
async fn the_merged_pipeline_lets_through_what_any_handler_matches() {
    let mut runner = runner(2);
    let log = random_log(&mut runner).await;
    let sets = random::wishes(log.databases.len());
    let mut matched = 0;
    for _ in 0..HANDLER_SETS {
        let wishes = draw(&sets, &mut runner);
        let specs = wishes.iter().enumerate();
        let specs = specs.map(|(place, wish)| spec(&log, wish, place.to_string(), unused));
        let runtime = runtime(&log).handlers(specs).build().expect("a runtime");
        let pipeline = runtime.pipeline().await.expect("a pipeline");
        let merged = log.stored(&pipeline[1..]).await;
        for wish in &wishes {
            let wanted = exact(&log, wish).await;
            matched += wanted.len();
            if let Some(lost) = wanted.difference(&merged).next() {
                panic!(
                    "lost to {wish:?}\nin {wishes:?}\npipeline: {}\nevent: {}",
                    Bson::from(pipeline),
                    log.text(*lost),
                );
            }
        }
    }
    assert!(matched >= 2_000, "{matched}");
}

#[tokio::test]
async fn each_handler_of_a_runtime_gets_exactly_what_its_own_pipeline_selects() {
    let mut runner = runner(3);
    let log = random_log(&mut runner).await;
    let sets = random::wishes(log.databases.len());
    let mut matched = 0;
    for _ in 0..RUNTIMES {
        let wishes = draw(&sets, &mut runner);
        for (wish, received) in wishes.iter().zip(run(&log, &wishes).await) {
            let wanted = exact(&log, wish).await;
            let wanted: Events = wanted.intersection(&log.streamable()).copied().collect();
            matched += wanted.len();
            if let Some(event) = wanted.symmetric_difference(&received).next() {
                panic!(
                    "the server says {}, the runtime {}\nhandler: {wish:?}\nin {wishes:?}\nevent: {}",
                    wanted.contains(event),
                    received.contains(event),
                    log.text(*event),
                );
            }
        }
    }
    assert!(matched >= 500, "{matched}");
}

/// The events that each of `wishes` receives in one runtime.
async fn run(log: &Log, wishes: &[Wish]) -> Vec<Events> {
    let seen: Vec<_> = wishes
        .iter()
        .map(|_| Arc::new(Mutex::new(BTreeSet::<EventId>::new())))
        .collect();
    let specs = wishes.iter().zip(&seen).enumerate();
    let specs: Vec<_> = specs
        .map(|(place, (wish, seen))| {
            let seen = Arc::clone(seen);
            // With the pre-image, as in the log.
            let handler = move |id: EventId, _before: Option<PreImage<RawDocumentBuf>>| {
                seen.lock().expect("no panic").insert(id);
                std::future::ready(Ok::<(), HandlerError>(()))
            };
            spec(log, wish, place.to_string(), handler)
        })
        .collect();
    let end = Arc::new(Notify::new());
    let at_end = Arc::clone(&end);
    let sentinel = HandlerSpec::new("sentinel", move || {
        at_end.notify_one();
        std::future::ready(Ok::<(), HandlerError>(()))
    });
    let dead_letters = MemoryDeadLetters::default();
    let runtime = runtime(log)
        .handlers(specs)
        .handler(sentinel.collections([Log::SENTINEL]))
        .start_at(StartAt::OperationTime(ClusterTime(log.from)))
        .dead_letter_store(dead_letters.clone())
        .build()
        .expect("a runtime");
    log.within_deadline(runtime.run_until(end.notified()))
        .await
        .expect("the runtime runs");
    assert!(dead_letters.letters().is_empty(), "{dead_letters:?}");
    let places = |seen: &Arc<Mutex<BTreeSet<EventId>>>| {
        let seen = seen.lock().expect("no panic");
        let place = |id: &EventId| log.events.iter().position(|event| event.event_id() == *id);
        seen.iter().filter_map(place).collect()
    };
    seen.iter().map(places).collect()
}

async fn unused() -> Result<(), HandlerError> {
    Ok(())
}

pub(crate) fn runtime(log: &Log) -> changestream::RuntimeBuilder<()> {
    Runtime::builder(log.client.database(&log.databases[0]))
        .concurrency(1)
        // Splitting changes tokens, and with them the ids by which events are found in the log.
        .on_oversize_event(OnOversizeEvent::Fail)
        .name("properties")
        .checkpoint_store(MemoryCheckpoints::default())
}

pub(crate) fn spec<H, Args>(log: &Log, wish: &Wish, name: String, handler: H) -> HandlerSpec<()>
where
    H: changestream::Handler<Args, ()>,
    Args: 'static,
{
    let spec = HandlerSpec::new(name, handler)
        .collections(wish.collections.iter().copied())
        .operations(wish.operations.iter().cloned())
        .fields(wish.fields.iter().cloned());
    match wish.database {
        Some(place) => spec.database(&log.databases[place]),
        None => spec,
    }
}

/// What the server selects for one handler alone.
async fn exact(log: &Log, wish: &Wish) -> Events {
    let pipeline = spec(log, wish, "exact".into(), unused).pipeline();
    let selected = log.stored(&pipeline.expect("a pipeline")[1..]).await;
    let database = &log.databases[wish.database.unwrap_or_default()];
    let is_watched = |place: &usize| {
        let event = &log.events[*place];
        event.database() == database || *event.operation() == Operation::Invalidate
    };
    selected.into_iter().filter(is_watched).collect()
}
