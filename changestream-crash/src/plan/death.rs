use fastrand::Rng;

use super::Kind;

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

pub(super) fn draw(
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
        let death = match (kind, index) {
            (Kind::Standby, 1) => held_back(rng, share),
            _ => death(rng, kind, must.take(), after, share),
        };
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

/// A replica that stops where a checkpoint of its is about to go out, and sends it when another one has taken over: in
/// every run of replicas, since hardly anything else shows what the fence is there for.
fn held_back(rng: &mut Rng, share: u64) -> Death {
    let point = "checkpoint.sending";
    Death {
        point: Some((point, countdown(rng, point, share))),
        after: share * 3,
        manner: Manner::Pause,
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
