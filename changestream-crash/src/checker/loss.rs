use std::collections::{HashMap, HashSet};

use super::{Logs, Rule, Violation, history::History};
use crate::log::Version;

pub(super) fn check(logs: &Logs, history: &History<'_>) -> Vec<Violation> {
    let done = history.handled.iter().filter(|handled| handled.is_done);
    let done: HashSet<_> = done.map(|handled| &handled.event.version).collect();
    let acknowledged = logs.acknowledged.iter();
    let lost = acknowledged.filter(|version| !done.contains(version));
    let mut violations: Vec<_> = lost
        .map(|version| violation(version, "was never done"))
        .collect();
    violations.extend(never_shown(logs, history));
    violations
}

/// Documents that were there before, and came neither by the snapshot nor by a later change.
fn never_shown(logs: &Logs, history: &History<'_>) -> Vec<Violation> {
    let mut last: HashMap<&str, &Version> = HashMap::new();
    for version in &logs.before {
        let last = last.entry(&version.key).or_insert(version);
        if version.number > last.number {
            *last = version;
        }
    }
    let events = history.handled.iter().filter(|handled| handled.is_done);
    let events = events.map(|handled| &handled.event.version);
    let rows = history.rows.iter().filter(|row| row.is_done);
    for version in events.chain(rows.map(|row| row.version)) {
        let key = version.key.as_str();
        if last
            .get(key)
            .is_some_and(|last| version.number >= last.number)
        {
            last.remove(key);
        }
    }
    let never = last.into_values();
    never
        .map(|version| violation(version, "was there before, and never shown"))
        .collect()
}

fn violation(Version { key, number }: &Version, what: &str) -> Violation {
    Violation {
        rule: Rule::Lost,
        entry: None,
        what: format!("{key} version {number} {what}"),
    }
}
