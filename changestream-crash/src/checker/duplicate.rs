use std::collections::{HashMap, HashSet};

use super::{
    Limits, Rule, Violation,
    history::{Handled, History},
};

#[derive(Default)]
pub(super) struct Duplicates {
    pub(super) count: usize,
    pub(super) uncommitted: usize,
    pub(super) violations: Vec<Violation>,
}

pub(super) fn check(history: &History<'_>, limits: Limits) -> Duplicates {
    let mut duplicates = Duplicates::default();
    let terms = history.terms.iter();
    let covered: Vec<_> = terms.map(|term| history.covered(term)).collect();
    let mut seen = HashSet::new();
    let mut seen_in_term = HashSet::new();
    let mut done_in_term = HashSet::new();
    for handled in &history.handled {
        let version = &handled.event.version;
        let is_new_in_term = seen_in_term.insert((handled.term, version));
        if !seen.insert(version) && is_new_in_term {
            duplicates.count += 1;
            let token = handled.event.token.as_str();
            if covered[handled.term].is_some_and(|covered| token <= covered) {
                duplicates.violate(handled, "was handled again, though a checkpoint covered it");
            }
        }
        if done_in_term.contains(&(handled.term, version)) {
            duplicates.violate(handled, "was handled again in one term");
        }
        if handled.is_done {
            done_in_term.insert((handled.term, version));
        }
    }
    duplicates.bound(history, limits);
    duplicates
}

impl Duplicates {
    fn violate(&mut self, handled: &Handled<'_>, what: &str) {
        let version = &handled.event.version;
        let what = format!("{} version {} {what}", version.key, version.number);
        let violation = Violation::at(Rule::OverBound, handled.entry, what);
        self.violations.push(violation);
    }

    /// Holds what was done and not covered at the end of each term against the limit.
    fn bound(&mut self, history: &History<'_>, limits: Limits) {
        let mut first_done = HashMap::new();
        for handled in history.handled.iter().filter(|handled| handled.is_done) {
            let version = &handled.event.version;
            first_done.entry(version).or_insert(handled);
        }
        // A term ends where the next one begins, and the last one ends well.
        for next in history.terms.iter().skip(1) {
            let (end, covered) = (next.begun, history.covered(next));
            let uncovered = first_done.values().filter(|done| {
                let token = done.event.token.as_str();
                done.entry < end && covered.is_none_or(|covered| token > covered)
            });
            let uncovered = uncovered.count();
            self.uncommitted = self.uncommitted.max(uncovered);
            if uncovered > limits.uncommitted {
                let what = format!(
                    "{uncovered} events were done and not covered by a checkpoint; the limit is {}",
                    limits.uncommitted
                );
                self.violations
                    .push(Violation::at(Rule::OverBound, end, what));
            }
        }
    }
}
