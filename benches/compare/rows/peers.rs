//! Other ways to react to changes, in `benches/peers/`. Each is a program that gets a task and prints figures.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use changestream_testkit::cache_dir;

use crate::{
    Result,
    backlog::Backlog,
    comparison::{Comparison, Contestant},
    driver,
    measure::Measure,
    sdk,
};

pub(crate) fn comparison(events: u64) -> Result<Comparison> {
    let cache = cache_dir()?.join("peers");
    let mut contestants = vec![
        Contestant::new("driver, typed", driver::typed),
        Contestant::new("changestream", sdk::typed),
    ];
    let mut about = "the same drain in other ways: received, decoded to a type, counted".to_owned();
    for peer in PEERS {
        if cache.join(peer.needs).exists() {
            let cache = cache.clone();
            contestants.push(Contestant::program(peer.label, move || {
                (peer.command)(&cache)
            }));
        } else {
            let (label, name) = (peer.label, peer.name);
            about += &format!("; without {label}, which `benches/peers/fetch {name}` fetches");
        }
    }
    Ok(Comparison {
        name: "peers".into(),
        about,
        backlog: Backlog::PLAIN,
        events,
        contestants,
        columns: vec![
            Measure::EventsPerSecond,
            Measure::ClientCpu,
            Measure::PeakMemory,
        ],
        targets: Vec::new(),
        plot: None,
    })
}

struct Peer {
    name: &'static str,
    label: &'static str,
    /// What is in the cache once it was fetched.
    needs: &'static str,
    command: fn(&Path) -> Command,
}

const PEERS: &[Peer] = &[
    Peer {
        name: "node",
        label: "Node driver",
        needs: "node/node_modules/mongodb",
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
        command: |cache| {
            let mut command = Command::new(cache.join("pymongo/bin/python"));
            command.arg(source("pymongo/drain.py"));
            command
        },
    },
];

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/peers")
        .join(file)
}
