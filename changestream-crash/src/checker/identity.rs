use std::collections::{HashMap, HashSet};

use super::{Rule, Violation, history::History};
use crate::log::Version;

pub(super) fn check(acknowledged: &[Version], history: &History<'_>) -> Vec<Violation> {
    let written: HashSet<_> = acknowledged.iter().collect();
    let mut names = HashMap::new();
    let mut versions = HashMap::new();
    let mut violations = Vec::new();
    for handled in &history.handled {
        let event = handled.event;
        let (version, name) = (&event.version, (&event.id, &event.token));
        let mut violate = |what: &str| {
            let what = format!("{} version {} {what}", version.key, version.number);
            violations.push(Violation::at(Rule::Identity, handled.entry, what));
        };
        if !written.contains(version) {
            violate("was never written");
        }
        if *names.entry(version).or_insert(name) != name {
            violate("came as two events");
        }
        let of_id = *versions.entry(&event.id).or_insert(version);
        let of_token = *versions.entry(&event.token).or_insert(version);
        if of_id != version || of_token != version {
            violate("came with the id or token of another version");
        }
    }
    violations
}
