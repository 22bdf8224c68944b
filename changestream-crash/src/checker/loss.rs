use std::collections::HashSet;

use super::{Rule, Violation, history::History};
use crate::log::Version;

pub(super) fn check(acknowledged: &[Version], history: &History<'_>) -> Vec<Violation> {
    let done = history.handled.iter().filter(|handled| handled.is_done);
    let done: HashSet<_> = done.map(|handled| &handled.event.version).collect();
    let lost = acknowledged
        .iter()
        .filter(|version| !done.contains(version));
    lost.map(|version| Violation {
        rule: Rule::Lost,
        entry: None,
        what: format!("{} version {} was never done", version.key, version.number),
    })
    .collect()
}
