//! What is done to a service in one run, all of it drawn from a seed.

use std::{fmt, time::Duration};

use clap::{Args, ValueEnum};
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
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One process, and then the next one
    Single,
    /// Two replicas, of which one is active
    Standby,
    /// Two replicas that share the work
    Shared,
    /// One process, which begins with a snapshot
    Snapshot,
    /// One process, for which the server splits large events
    Split,
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
    /// What happens then.
    pub(crate) manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Ask,
    /// SIGSTOP, also where it comes to its point, and when another one has taken over, SIGCONT: it lives on.
    Pause,
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
    /// The plan of this seed, of a run of this `kind` where one is asked for.
    pub(crate) fn of(seed: u64, events: u64, kind: Option<Kind>) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Runs one after the other go through all points.
        let must = POINTS.get(seed as usize % POINTS.len().max(1)).copied();
        let drawn = Kind::draw(&mut rng);
        let kind = kind.unwrap_or_else(|| must.and_then(Kind::of_point).unwrap_or(drawn));
        let must = must.filter(|point| kind.has(point));
        let deployment = match rng.u8(..5) {
            0 => Deployment::Set,
            _ => Deployment::Single,
        };
        let deaths = deaths(&mut rng, kind, must, events);
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
            },
            faults: faults(&mut rng, deployment, events),
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
        } = self;
        vec![
            format!("--batch-size={batch_size}"),
            format!("--concurrency={concurrency}"),
            format!("--in-flight-events={in_flight_events}"),
            format!("--checkpoint-events={checkpoint_events}"),
            format!("--checkpoint-interval={checkpoint_interval}"),
            format!("--partitions={partitions}"),
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

impl Kind {
    fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..20) {
            0..9 => Self::Single,
            9..14 => Self::Standby,
            14..17 => Self::Shared,
            17..19 => Self::Snapshot,
            _ => Self::Split,
        }
    }

    /// The only one in which a process comes to `point`, if it is only one.
    fn of_point(point: &str) -> Option<Self> {
        match point.split_once('.')? {
            ("snapshot", _) => Some(Self::Snapshot),
            ("partition", _) => Some(Self::Shared),
            ("fragment", _) => Some(Self::Split),
            _ => None,
        }
    }

    fn has(self, point: &str) -> bool {
        Self::of_point(point).is_none_or(|kind| kind == self)
    }

    /// The points that a process comes to; only its own, if there are any and they are asked for.
    fn points(self, own: bool) -> Vec<&'static str> {
        let points = || POINTS.iter().copied();
        let all = points().filter(|point| self.has(point));
        let is_own = |point: &&str| Self::of_point(point).is_some();
        let has_own = points().any(|point| Self::of_point(point) == Some(self));
        all.filter(|point| !(own && has_own) || is_own(point))
            .collect()
    }

    /// How many processes run side by side.
    fn processes(self) -> u64 {
        match self {
            Self::Standby | Self::Shared => 2,
            _ => 1,
        }
    }
}

fn deaths(
    rng: &mut Rng,
    kind: Kind,
    mut must: Option<&'static str>,
    events: u64,
) -> Vec<Vec<Death>> {
    let processes = kind.processes();
    let count = rng.u64(3..=5).max(processes * 2);
    let share = events / (count + 1);
    let mut deaths = vec![Vec::new(); processes as usize];
    for index in 0..count {
        let after = share * (index + 1) - rng.u64(..=share / 2);
        let death = death(rng, kind, must.take(), after, share);
        deaths[(index % processes) as usize].push(death);
    }
    deaths
}

fn death(rng: &mut Rng, kind: Kind, must: Option<&'static str>, after: u64, share: u64) -> Death {
    /// Where a process may stop for a while: where what it does next is seen by others.
    const PAUSES: &[&str] = &["checkpoint.sending", "effect.before", "effect.after"];
    let is_paused = must.is_none() && kind.processes() > 1 && rng.u8(..3) == 0;
    let point = must.or_else(|| {
        let points: Vec<_> = match is_paused {
            true => PAUSES.to_vec(),
            false => kind.points(rng.bool()),
        };
        let is_at_point = !points.is_empty() && rng.u8(..10) < 6;
        is_at_point.then(|| points[rng.usize(..points.len())])
    });
    let point = point.map(|point| (point, countdown(rng, point, share)));
    let manner = match point {
        _ if is_paused => Manner::Pause,
        Some((point, _)) if point.starts_with("shutdown.") => Manner::Ask,
        None if rng.u8(..4) == 0 => Manner::Ask,
        _ => Manner::Kill,
    };
    Death {
        point,
        after,
        manner,
    }
}

/// Which passage of `point` is the last one, so that it comes about within `share` events.
fn countdown(rng: &mut Rng, point: &str, share: u64) -> u64 {
    let most = match point.split_once('.').unwrap_or((point, "")) {
        ("start" | "shutdown", _) | (_, "reopened" | "written" | "failed") => 1,
        ("partition", _) => 1,
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

fn fault_of_single(rng: &mut Rng) -> FaultKind {
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
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
