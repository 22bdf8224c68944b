//! Other ways to react to changes, in `benches/peers/`. Each is a program that gets a task and prints figures.

pub(crate) mod latency;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use changestream_testkit::cache_dir;

use crate::{
    Result,
    backlog::Backlog,
    comparison::{Bound, Comparison, Contestant, Target},
    driver,
    measure::Measure,
    sdk,
};

pub(crate) fn comparison(events: u64) -> Result<Comparison> {
    let cache = &cache()?;
    let mut contestants = vec![
        Contestant::new("driver, typed", driver::typed),
        Contestant::new("changestream", sdk::typed),
    ];
    let mut about = "the same drain in other ways: received, decoded to a type, counted; \
                     by Debezium for the second time, when it is warm"
        .to_owned();
    for peer in PEERS {
        let program = peer.contestant(cache, &mut about);
        contestants.extend(program.map(|program| program.share(peer.share)));
    }
    let debezium = contestants.iter().position(|c| c.label == DEBEZIUM_TUNED);
    let targets = debezium.map(against_debezium).unwrap_or_default();
    Ok(Comparison {
        name: "peers".into(),
        about,
        receiver: None,
        backlog: Backlog::PLAIN,
        events,
        contestants,
        columns: vec![
            Measure::EventsPerSecond,
            Measure::ClientCpu,
            Measure::PeakMemory,
        ],
        targets,
        plot: None,
    })
}

/// Where the peers are once they were fetched.
fn cache() -> Result<PathBuf> {
    Ok(cache_dir()?.join("peers"))
}

fn against_debezium(debezium: usize) -> Vec<Target> {
    let target = |what, measure, bound| Target {
        what,
        measure,
        of: 1,
        against: Some(debezium),
        bound,
    };
    vec![
        target("events/s", Measure::EventsPerSecond, Bound::AtLeast(4.0)),
        target(
            "client CPU per event",
            Measure::ClientCpu,
            Bound::AtMost(0.05),
        ),
        target("peak memory", Measure::PeakMemory, Bound::AtMost(0.05)),
    ]
}

struct Peer {
    name: &'static str,
    label: &'static str,
    /// What is in the cache once it was fetched.
    needs: &'static str,
    /// Of a drain.
    share: u64,
    command: fn(&Path) -> Command,
}

impl Peer {
    /// Nothing if it was not fetched, which is then said.
    fn contestant(&'static self, cache: &Path, about: &mut String) -> Option<Contestant> {
        let Self { name, label, .. } = self;
        if cache.join(self.needs).exists() {
            let cache = cache.to_owned();
            return Some(Contestant::program(label, move || (self.command)(&cache)));
        }
        *about += &format!("; without {label}, which `benches/peers/fetch {name}` fetches");
        None
    }
}

const DEBEZIUM_TUNED: &str = "Debezium 3.6, tuned";

const PEERS: &[Peer] = &[
    Peer {
        name: "node",
        label: "Node driver",
        needs: "node/node_modules/mongodb",
        share: 1,
        command: |cache| {
            let mut command = Command::new("node");
            command.env("NODE_PATH", cache.join("node/node_modules"));
            command.arg(source("node/drain.cjs"));
            command
        },
    },
    Peer {
        name: "pymongo",
        label: "pymongo",
        needs: "pymongo/bin/python",
        share: 1,
        command: |cache| {
            let mut command = Command::new(cache.join("pymongo/bin/python"));
            command.arg(source("pymongo/drain.py"));
            command
        },
    },
    Peer {
        name: "postgres",
        label: "PostgreSQL, polled at once",
        needs: "postgres/bin/python",
        share: 1,
        command: |cache| postgres(cache, "at-once"),
    },
    Peer {
        name: "postgres",
        label: "PostgreSQL, polled every 100 ms",
        needs: "postgres/bin/python",
        // It sees a thousand in a second.
        share: 50,
        command: |cache| postgres(cache, "interval"),
    },
    Peer {
        name: "debezium",
        label: "Debezium 3.6, defaults",
        needs: "debezium/classes/Drain.class",
        share: 1,
        command: |cache| debezium(cache, "default", &[]),
    },
    Peer {
        name: "debezium",
        label: DEBEZIUM_TUNED,
        needs: "debezium/classes/Drain.class",
        share: 1,
        // What it needs and no more, and the collector with the least work: faster, and a sixth of the memory.
        command: |cache| debezium(cache, "tuned", &["-Xmx512m", "-XX:+UseParallelGC"]),
    },
    Peer {
        name: "mq_bridge",
        label: "mq-bridge 1.3, batches of 512",
        needs: "mq-bridge/release/drain",
        share: 1,
        command: |cache| mq_bridge(cache, "512"),
    },
    Peer {
        name: "mq_bridge",
        label: "mq-bridge 1.3, batches of 1",
        needs: "mq-bridge/release/drain",
        // It handles two thousand in a second.
        share: 50,
        command: |cache| mq_bridge(cache, "1"),
    },
];

fn mq_bridge(cache: &Path, batch: &str) -> Command {
    let mut command = Command::new(cache.join("mq-bridge/release/drain"));
    command.arg(batch);
    command
}

fn postgres(cache: &Path, when: &str) -> Command {
    let mut command = Command::new(cache.join("postgres/bin/python"));
    command.arg(source("postgres/drain.py")).arg(when);
    command
}

fn debezium(cache: &Path, settings: &str, machine: &[&str]) -> Command {
    let here = |part: &str| cache.join("debezium").join(part).display().to_string();
    let mut command = Command::new("java");
    command.args(machine);
    command.args(["-cp", &format!("{}:{}", here("classes"), here("libs/*"))]);
    command.args(["Drain", settings]);
    command
}

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/peers")
        .join(file)
}
