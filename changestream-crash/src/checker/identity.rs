use std::collections::{HashMap, HashSet};

use super::{Logs, Rule, Violation, history::History};

pub(super) fn check(logs: &Logs, history: &History<'_>) -> Vec<Violation> {
    let written: HashSet<_> = logs.before.iter().chain(&logs.acknowledged).collect();
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
    for row in &history.rows {
        if !written.contains(row.version) {
            let (key, number) = (&row.version.key, row.version.number);
            let what = format!("{key} version {number} was never written");
            violations.push(Violation::at(Rule::Identity, row.entry, what));
        }
    }
    violations
}
