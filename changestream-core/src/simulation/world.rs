use std::time::Duration;

use bson::{RawDocumentBuf, Timestamp, rawdoc};
use fastrand::Rng;

use crate::{config::Config, event::RawChange, event::ResumeToken, layer::Policy};

pub(super) const COLLECTIONS: [&str; 2] = ["orders", "returns"];
pub(super) const SINKS: [&str; 2] = ["one", "other"];
pub(super) const SINK_CONCURRENCY: usize = 2;

/// What a seed decides before anything happens.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) config: Config,
    pub(super) handlers: Vec<HandlerPlan>,
    pub(super) events: Vec<Event>,
    /// How all lives but the last end.
    pub(super) endings: Vec<Ending>,
    /// How many of a hundred store operations go wrong.
    pub(super) faults: u32,
}

#[derive(Debug)]
pub(super) struct HandlerPlan {
    pub(super) name: String,
    pub(super) collections: Vec<usize>,
    pub(super) by_group: bool,
    /// Places in [`SINKS`].
    pub(super) sinks: Vec<usize>,
    /// How many events it takes at most, and how long the first waits for others, where it takes batches.
    pub(super) batch: Option<(usize, Duration)>,
    /// How many of a hundred attempts go as they should.
    pub(super) good: u32,
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) position: u32,
    pub(super) change: RawChange,
    /// The handlers that want it, each with its key; `None` where the event has none.
    pub(super) wanted: Vec<(usize, Option<Key>)>,
}

/// The key of an event for a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Group(i32),
    Document(usize, i32),
    /// The one of all events of a handler of batches.
    Handler,
}

/// When a life is asked to end, and when it is ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) stop: Option<Duration>,
    pub(super) crash: Option<Duration>,
}

pub(super) fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..=to))
}

/// True in so many of a hundred cases.
pub(super) fn percent(rng: &mut Rng, cases: u32) -> bool {
    rng.u32(0..100) < cases
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let handlers: Vec<_> = (0..rng.usize(1..=3)).map(|i| handler(rng, i)).collect();
        let (keys, keyless, big) = (rng.i32(1..=8), rng.u32(0..=10), rng.u32(0..=15));
        let mut position = 0;
        let events = (0..rng.usize(1..=60)).map(|_| {
            position += rng.u32(1..=4);
            event(rng, &handlers, position, keys, keyless, big)
        });
        Self {
            seed,
            events: events.collect(),
            config: config(rng),
            endings: (0..rng.usize(0..=3)).map(|_| ending(rng)).collect(),
            faults: if rng.bool() { 0 } else { rng.u32(1..=40) },
            handlers,
        }
    }
}

fn config(rng: &mut Rng) -> Config {
    let small = rng.bool();
    Config {
        policy: Policy {
            timeout: millis(rng, 200, 2_000),
            retries: rng.u32(0..=3),
            backoff: millis(rng, 1, 500),
        },
        concurrency: if rng.u32(0..4) == 0 {
            1
        } else {
            rng.usize(2..=6)
        },
        in_flight_events: if small {
            rng.usize(1..=6)
        } else {
            rng.usize(6..=64)
        },
        in_flight_bytes: if rng.bool() {
            rng.usize(1..=2_000)
        } else {
            1 << 20
        },
        checkpoint_interval: millis(rng, 10, 2_000),
        checkpoint_events: if small {
            rng.u64(1..=5)
        } else {
            rng.u64(5..=40)
        },
        drain_deadline: millis(rng, 0, 8_000),
        reply_timeout: millis(rng, 500, 3_000),
        ..Config::default()
    }
}

fn handler(rng: &mut Rng, index: usize) -> HandlerPlan {
    let some = |rng: &mut Rng| -> Vec<usize> { (0..2).filter(|_| rng.bool()).collect() };
    let collections = some(rng);
    let batch = (rng.u32(0..3) == 0).then(|| (rng.usize(1..=10), millis(rng, 1, 500)));
    HandlerPlan {
        name: format!("handler {index}"),
        collections: if collections.is_empty() {
            vec![0, 1]
        } else {
            collections
        },
        by_group: rng.bool() && batch.is_none(),
        sinks: match batch {
            Some(_) => Vec::new(),
            None => some(rng),
        },
        batch,
        good: rng.u32(30..=100),
    }
}

fn ending(rng: &mut Rng) -> Ending {
    let longest = if rng.bool() { 500 } else { 8_000 };
    let [stop, crash] = [(); 2].map(|()| millis(rng, 0, longest));
    match rng.u32(0..3) {
        0 => Ending {
            stop: Some(stop),
            crash: None,
        },
        1 => Ending {
            stop: None,
            crash: Some(crash),
        },
        _ => Ending {
            stop: Some(stop),
            crash: Some(stop + crash),
        },
    }
}

fn event(
    rng: &mut Rng,
    handlers: &[HandlerPlan],
    position: u32,
    keys: i32,
    keyless: u32,
    big: u32,
) -> Event {
    let collection = rng.usize(0..COLLECTIONS.len());
    let (id, group) = (rng.i32(0..keys), rng.bool().then(|| rng.i32(0..keys)));
    let is_keyless = percent(rng, keyless);
    // Nobody watches updates: the merged filter of the server lets more through than what is wanted.
    let operation = match () {
        () if is_keyless => "drop",
        () if percent(rng, 15) => "update",
        () => "insert",
    };
    let mut change = rawdoc! {
        "_id": token(position),
        "operationType": operation,
        "clusterTime": Timestamp { time: 1, increment: position },
        "ns": { "db": crate::testing::change::DATABASE, "coll": COLLECTIONS[collection] },
    };
    if !is_keyless {
        let mut document = rawdoc! { "_id": id };
        if let Some(group) = group {
            document.append(bson::cstr!("group"), group);
        }
        if percent(rng, big) {
            document.append(bson::cstr!("text"), "x".repeat(rng.usize(500..4_000)));
        }
        change.append(bson::cstr!("documentKey"), rawdoc! { "_id": id });
        change.append(bson::cstr!("fullDocument"), document);
    }
    let wanted = handlers
        .iter()
        .enumerate()
        .filter(|(_, handler)| operation != "update" && handler.collections.contains(&collection));
    let key = |handler: &HandlerPlan| match group.filter(|_| handler.by_group) {
        _ if handler.batch.is_some() => Some(Key::Handler),
        _ if is_keyless => None,
        Some(group) => Some(Key::Group(group)),
        None => Some(Key::Document(collection, id)),
    };
    Event {
        position,
        wanted: wanted
            .map(|(index, handler)| (index, key(handler)))
            .collect(),
        change: RawChange::new(change.into_bytes()).expect("an event"),
    }
}

/// The token of a position, in the server's format.
pub(super) fn token(position: u32) -> RawDocumentBuf {
    rawdoc! { "_data": format!("82{:08X}{position:08X}", 1) }
}

/// The position of a token.
pub(super) fn position(token: &ResumeToken) -> u32 {
    token.cluster_time().expect("one of these tokens").increment
}
