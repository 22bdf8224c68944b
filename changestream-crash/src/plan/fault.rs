use std::{fmt, time::Duration};

use fastrand::Rng;

use super::Deployment;

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

pub(super) fn draw(rng: &mut Rng, deployment: Deployment, events: u64) -> Vec<Fault> {
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
