//! What is done to a service in one run, all of it drawn from a seed.

use std::{fmt, time::Duration};

use fastrand::Rng;

#[cfg(changestream_crash)]
use changestream::crash_point::POINTS;
/// Only a build of `cargo xtask crash` has any.
#[cfg(not(changestream_crash))]
const POINTS: &[&str] = &[];

/// The plan of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) events: u64,
    pub(crate) deployment: Deployment,
    /// Whether the service starts "now", and the writer waits for it, or at a time that the writer does not wait for.
    pub(crate) starts_now: bool,
    /// How many events the writer gets ahead of the service.
    pub(crate) lead: u64,
    pub(crate) batch_size: u32,
    pub(crate) checkpoint_events: u64,
    pub(crate) checkpoint_interval: Duration,
    /// How the processes of the service end, one after the other.
    pub(crate) deaths: Vec<Death>,
    /// What happens to the server and to the network, one after the other.
    pub(crate) faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// One node, behind a proxy.
    Single,
    /// Three nodes.
    Set,
}

/// How a process of the service ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    /// The point at which it dies, when it comes there for the `n`th time..
    pub(crate) point: Option<(&'static str, u64)>,
    /// ..unless so many events were handled before that.
    pub(crate) after: u64,
    /// What happens then: SIGTERM, else SIGKILL.
    pub(crate) is_asked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// It happens once so many events were done.
    pub(crate) after: u64,
    pub(crate) kind: FaultKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// All connections are closed.
    Cut,
    /// Connections are closed, and refused for so long.
    Refuse(Duration),
    /// Nothing goes through for so long.
    Stall(Duration),
    /// Requests go through and replies do not, for so long.
    DropReplies(Duration),
    /// The primary is killed, and started again after so long.
    KillServer(Duration),
    /// The primary gives up.
    StepDown,
}

impl Plan {
    pub(crate) fn of(seed: u64, events: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let deployment = match rng.u8(..5) {
            0 => Deployment::Set,
            _ => Deployment::Single,
        };
        let kills = rng.u64(3..=5);
        let deaths: Vec<_> = (0..kills)
            .map(|index| {
                // Runs one after the other go through all points.
                let must = (index == 0).then(|| POINTS.get(seed as usize % POINTS.len().max(1)));
                let share = events / (kills + 1);
                let after = share * (index + 1) - rng.u64(..=share / 2);
                death(&mut rng, must.flatten().copied(), after, share)
            })
            .collect();
        let first_point = deaths[0].point.map_or("", |(point, _)| point);
        let starts_now = first_point.starts_with("start.first_") || rng.bool();
        Self {
            seed,
            events,
            deployment,
            starts_now,
            lead: [100, 500, 2_000, u64::MAX][rng.usize(..4)],
            batch_size: [1, 20, 101, 2_000][rng.usize(..4)].max(events as u32 / 500),
            checkpoint_events: [10, 100, 1_000][rng.usize(..3)],
            checkpoint_interval: Duration::from_millis([20, 200, 1_000][rng.usize(..3)]),
            faults: faults(&mut rng, deployment, events),
            deaths,
        }
    }

    /// How many events may be done and not covered by a checkpoint: those of the checkpoints that are being saved, wait
    /// to be saved and are due, and what is in flight.
    pub(crate) fn uncommitted(&self) -> usize {
        const IN_FLIGHT: usize = 1_024;
        3 * self.checkpoint_events as usize + IN_FLIGHT
    }
}

fn death(rng: &mut Rng, must: Option<&'static str>, after: u64, share: u64) -> Death {
    let point = must.or_else(|| {
        let is_at_point = !POINTS.is_empty() && rng.u8(..10) < 6;
        is_at_point.then(|| POINTS[rng.usize(..POINTS.len())])
    });
    let point = point.map(|point| (point, countdown(rng, point, share)));
    let is_asked = match point {
        Some((point, _)) => point.starts_with("shutdown."),
        None => rng.u8(..4) == 0,
    };
    Death {
        point,
        after,
        is_asked,
    }
}

/// Which passage of `point` is the last one, so that it comes about within `share` events.
fn countdown(rng: &mut Rng, point: &str, share: u64) -> u64 {
    let most = match point.split_once('.').unwrap_or((point, "")) {
        ("start" | "shutdown", _) | (_, "reopened" | "written" | "failed") => 1,
        ("event" | "effect", _) => share / 2,
        _ => 4,
    };
    // As often below 10 as between 10 and 100.
    let most = most.max(1) as f64;
    most.powf(rng.f64()).round() as u64
}

fn faults(rng: &mut Rng, deployment: Deployment, events: u64) -> Vec<Fault> {
    let count = rng.u64(1..=3);
    let share = events / (count + 1);
    let mut faults: Vec<_> = (0..count)
        .map(|index| Fault {
            after: share * (index + 1) - rng.u64(..=share / 2),
            kind: match deployment {
                Deployment::Single => fault_of_single(rng),
                Deployment::Set => fault_of_set(rng),
            },
        })
        .collect();
    if deployment == Deployment::Single {
        // Each stream has to be opened anew at least once.
        let (after, kind) = (share / 4, FaultKind::Cut);
        faults.insert(0, Fault { after, kind });
    }
    faults
}

pub(crate) fn fault_of_single(rng: &mut Rng) -> FaultKind {
    let mut millis = |range| Duration::from_millis(rng.u64(range));
    let (short, long) = (millis(20..300), millis(100..1_500));
    match rng.u8(..10) {
        0..4 => FaultKind::Cut,
        4 | 5 => FaultKind::DropReplies(short),
        6 => FaultKind::Stall(long),
        7 => FaultKind::Refuse(short),
        8 => FaultKind::KillServer(short),
        _ => FaultKind::StepDown,
    }
}

fn fault_of_set(rng: &mut Rng) -> FaultKind {
    match rng.bool() {
        true => FaultKind::StepDown,
        false => FaultKind::KillServer(Duration::from_millis(rng.u64(..2_000))),
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

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "cut",
            Self::Refuse(_) => "refuse",
            Self::Stall(_) => "stall",
            Self::DropReplies(_) => "drop",
            Self::KillServer(_) => "kill",
            Self::StepDown => "step",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan() {
        let plan = |seed| format!("{:?}", Plan::of(seed, 10_000));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn whatever_happens_happens_while_there_are_events() {
        for seed in 0..200 {
            let plan = Plan::of(seed, 10_000);
            let deaths = plan.deaths.iter().map(|death| death.after);
            let faults = plan.faults.iter().map(|fault| fault.after);
            assert!(deaths.clone().is_sorted() && faults.clone().is_sorted());
            assert!(deaths.chain(faults).all(|after| after < 10_000), "{seed}");
        }
    }
}
