use std::{env, process::Command};

use crate::{
    backlog::Backlog,
    comparison::{Bound, Comparison, Contestant, Target},
    measure::Measure,
};

pub(crate) fn comparison(events: u64) -> Comparison {
    let contestant = |label, variant| Contestant::program(label, move || engine(variant));
    let target = |what, measure, bound| Target {
        what,
        measure,
        of: 1,
        against: None,
        bound,
    };
    Comparison {
        name: "engine".into(),
        about: "inserts of about 220 bytes from memory, on one core, two fields of which are taken, or all text; \
                the driver's are decoded and no more; all pay for each allocation that is counted"
            .into(),
        receiver: None,
        backlog: Backlog::Empty,
        events: events * 5,
        contestants: vec![
            contestant("driver, typed, only decoded", "decoding"),
            contestant("changestream", "default"),
            contestant("changestream, one lane", "one-lane"),
            contestant("changestream, text copied", "text-copied"),
            contestant("changestream, text borrowed", "text-borrowed"),
            contestant("changestream, a sink", "sink"),
            contestant("changestream, a sink of batches", "sink-of-batches"),
        ],
        columns: vec![Measure::EventsPerSecond, Measure::Allocations],
        targets: vec![
            target(
                "events/s",
                Measure::EventsPerSecond,
                Bound::AtLeast(1_000_000.0),
            ),
            target(
                "allocations per event",
                Measure::Allocations,
                Bound::AtMost(4.0),
            ),
        ],
        plot: None,
    }
}

/// The benchmark of that name, whose allocator counts.
///
/// What cargo has said of this one's package is left out: build scripts look at it, and would build what this is made of anew.
fn engine(variant: &str) -> Command {
    let mut command = Command::new("cargo");
    let is_of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_package) {
            command.env_remove(name);
        }
    }
    command.args(["bench", "--quiet", "--all-features", "--bench", "engine"]);
    command
        .args(["--", variant])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}
