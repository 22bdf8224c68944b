use std::fmt;

use clap::ValueEnum;
use fastrand::Rng;

#[cfg(changestream_crash)]
use changestream::crash_point::POINTS;
/// Only a build of `cargo xtask crash` has any.
#[cfg(not(changestream_crash))]
const POINTS: &[&str] = &[];

/// The point of this number, counted on from the first one after the last one.
pub(super) fn point(number: u64) -> Option<&'static str> {
    POINTS.get(number as usize % POINTS.len().max(1)).copied()
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

impl Kind {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..20) {
            0..9 => Self::Single,
            9..14 => Self::Standby,
            14..17 => Self::Shared,
            17..19 => Self::Snapshot,
            _ => Self::Split,
        }
    }

    /// The only one in which a process comes to `point`, if it is only one.
    pub(super) fn of_point(point: &str) -> Option<Self> {
        match point.split_once('.')? {
            ("snapshot", _) => Some(Self::Snapshot),
            ("partition", _) => Some(Self::Shared),
            ("fragment", _) => Some(Self::Split),
            _ => None,
        }
    }

    pub(super) fn has(self, point: &str) -> bool {
        Self::of_point(point).is_none_or(|kind| kind == self)
    }

    /// The points that a process comes to; only its own, if there are any and they are asked for.
    pub(super) fn points(self, own: bool) -> Vec<&'static str> {
        let points = || POINTS.iter().copied();
        let all = points().filter(|point| self.has(point));
        let is_own = |point: &&str| Self::of_point(point).is_some();
        let has_own = points().any(|point| Self::of_point(point) == Some(self));
        all.filter(|point| !(own && has_own) || is_own(point))
            .collect()
    }

    /// How many processes run side by side.
    pub(super) fn processes(self) -> u64 {
        match self {
            Self::Standby | Self::Shared => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
    }
}
