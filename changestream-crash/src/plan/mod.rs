//! What is done to a service in one run, all of it drawn from a seed.

mod death;
mod fault;
mod kind;

use std::fmt;

use clap::Args;
use fastrand::Rng;

pub(crate) use death::{Death, Manner};
pub(crate) use fault::{Fault, FaultKind, fault_of_single};
pub(crate) use kind::Kind;

/// The plan of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) events: u64,
    pub(crate) kind: Kind,
    pub(crate) deployment: Deployment,
    /// Whether the service starts "now", and the writer waits for it, or at a time that the writer does not wait for.
    pub(crate) starts_now: bool,
    /// How many events the writer gets ahead of the service.
    pub(crate) lead: u64,
    pub(crate) settings: Settings,
    /// For each of the processes that run side by side: how it and those that follow it end, one after the other.
    pub(crate) deaths: Vec<Vec<Death>>,
    /// What happens to the server and to the network, one after the other.
    pub(crate) faults: Vec<Fault>,
}

/// How the service is set up.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Settings {
    #[arg(long)]
    pub(crate) batch_size: u32,
    #[arg(long)]
    pub(crate) concurrency: usize,
    #[arg(long)]
    pub(crate) in_flight_events: usize,
    #[arg(long)]
    pub(crate) checkpoint_events: u64,
    /// In milliseconds
    #[arg(long)]
    pub(crate) checkpoint_interval: u64,
    /// 1 for none
    #[arg(long)]
    pub(crate) partitions: u32,
    /// For how many seconds a replica has the lease that it does not renew
    #[arg(long)]
    pub(crate) lease: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// One node, behind a proxy.
    Single,
    /// Three nodes.
    Set,
}

impl Plan {
    /// The plan of this seed, of a run of this `kind` where one is asked for.
    pub(crate) fn of(seed: u64, events: u64, kind: Option<Kind>) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Runs one after the other go through all points.
        let must = kind::point(seed);
        let drawn = Kind::draw(&mut rng);
        let kind = kind.unwrap_or_else(|| must.and_then(Kind::of_point).unwrap_or(drawn));
        let must = must.filter(|point| kind.has(point));
        let deployment = match rng.u8(..5) {
            0 => Deployment::Set,
            _ => Deployment::Single,
        };
        let deaths = death::draw(&mut rng, kind, must, events);
        let starts_now = must.is_some_and(|point| point.starts_with("start.first_"))
            || kind == Kind::Snapshot
            || rng.bool();
        Self {
            seed,
            events,
            kind,
            deployment,
            starts_now,
            lead: [100, 500, 2_000, u64::MAX][rng.usize(..4)],
            settings: Settings {
                batch_size: [1, 20, 101, 2_000][rng.usize(..4)].max(events as u32 / 500),
                concurrency: [1, 4, 16][rng.usize(..3)],
                in_flight_events: [64, 256, 1_024][rng.usize(..3)],
                checkpoint_events: [10, 100, 1_000][rng.usize(..3)],
                checkpoint_interval: [20, 200, 1_000][rng.usize(..3)],
                partitions: match kind {
                    Kind::Shared => rng.u32(2..=4),
                    _ => 1,
                },
                lease: 1,
            },
            faults: fault::draw(&mut rng, deployment, events),
            deaths,
        }
    }
}

impl Settings {
    /// The arguments with which a process has these settings.
    pub(crate) fn to_args(self) -> Vec<String> {
        let Self {
            batch_size,
            concurrency,
            in_flight_events,
            checkpoint_events,
            checkpoint_interval,
            partitions,
            lease,
        } = self;
        vec![
            format!("--batch-size={batch_size}"),
            format!("--concurrency={concurrency}"),
            format!("--in-flight-events={in_flight_events}"),
            format!("--checkpoint-events={checkpoint_events}"),
            format!("--checkpoint-interval={checkpoint_interval}"),
            format!("--partitions={partitions}"),
            format!("--lease={lease}"),
        ]
    }

    /// How many events may be done and not covered by a checkpoint.
    ///
    /// No event is taken in while as many as checkpoints are about were passed since the last one, or as many as may be
    /// are in flight. So there are never more of the two together, when a checkpoint is taken: then one may be being
    /// saved, and one may wait to be.
    pub(crate) fn uncommitted(&self) -> usize {
        3 * (self.checkpoint_events as usize + self.in_flight_events)
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "1 node",
            Self::Set => "3 nodes",
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn a_seed_gives_one_plan() {
        let plan = |seed| format!("{:?}", Plan::of(seed, 10_000, None));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn whatever_happens_happens_while_there_are_events() {
        for seed in 0..200 {
            let plan = Plan::of(seed, 10_000, None);
            let faults = plan.faults.iter().map(|fault| fault.after);
            assert!(faults.is_sorted());
            assert!(plan.faults.iter().all(|fault| fault.after < 10_000));
            for deaths in plan.deaths {
                assert!(deaths.iter().map(|death| death.after).is_sorted());
                assert!(deaths.iter().all(|death| death.after < 10_000), "{seed}");
            }
        }
    }

    #[test]
    fn all_kinds_of_runs_come_up() {
        for kind in Kind::value_variants() {
            let mut seeds = 0..100;
            assert!(
                seeds.any(|seed| Plan::of(seed, 10_000, None).kind == *kind),
                "{kind}"
            );
            assert_eq!(Plan::of(1, 10_000, Some(*kind)).kind, *kind);
        }
    }
}
