use std::collections::{BTreeMap, HashMap};

use super::{Rule, Violation, history::History};
use crate::log::{Commit, Place};

pub(super) fn check(history: &History<'_>) -> Vec<Violation> {
    let mut violations = early(history);
    violations.extend(stale(history));
    violations.extend(forgotten(history));
    violations
}

/// Commits of events that were not done.
fn early(history: &History<'_>) -> Vec<Violation> {
    // By token: the entry that did the event first, and the event.
    let mut done = BTreeMap::new();
    for handled in &history.handled {
        let version = &handled.event.version;
        let first = done.entry(handled.event.token.as_str());
        let (entry, _) = first.or_insert((usize::MAX, version));
        if handled.is_done {
            *entry = handled.entry.min(*entry);
        }
    }
    // For each token, the last event to be done up to there.
    let mut last = (0, None);
    for (entry, version) in done.values_mut() {
        if *entry > last.0 {
            last = (*entry, Some(*version));
        }
        *entry = last.0;
        *version = last.1.unwrap_or(version);
    }
    let violation = |save: &super::history::Save<'_>| {
        let token = save.place.token.as_str();
        let (_, (done, version)) = done.range(..=token).next_back()?;
        (*done > save.begun).then(|| {
            let (key, number) = (&version.key, version.number);
            let what = format!("a checkpoint covered {key} version {number}, which was not done");
            Violation::at(Rule::EarlyCommit, save.begun, what)
        })
    };
    history.saves.iter().filter_map(violation).collect()
}

/// Commits of what is not above what had been saved before.
fn stale(history: &History<'_>) -> Vec<Violation> {
    let violation = |(index, save): (usize, &super::history::Save<'_>)| {
        let saved = save.saved?;
        // One attempt follows another but for those of several processes, so the earlier ones began earlier.
        let before = history.saves[..index].iter();
        let before = before.filter(|earlier| earlier.saved.is_some_and(|end| end < save.begun));
        let newest = before.clone().map(|earlier| rank(earlier.place)).max();
        if newest >= Some(rank(save.place)) {
            let (epoch, sequence) = newest?;
            let what = format!(
                "epoch {} sequence {} was saved over epoch {epoch} sequence {sequence}",
                save.place.epoch, save.place.sequence
            );
            return Some(Violation::at(Rule::StaleCommit, saved, what));
        }
        let furthest = before.map(|earlier| earlier.place.token.as_str()).max();
        let goes_back = furthest.is_some_and(|furthest| furthest > save.place.token.as_str());
        goes_back.then(|| {
            let what = "a checkpoint went back in the stream".to_owned();
            Violation::at(Rule::StaleCommit, saved, what)
        })
    };
    history
        .saves
        .iter()
        .enumerate()
        .filter_map(violation)
        .collect()
}

/// Of what the server has committed, what is below what it had committed before.
pub(super) fn stale_on_server(commits: &[Commit]) -> Vec<Violation> {
    let mut last: HashMap<&str, &Place> = HashMap::new();
    let mut violations = Vec::new();
    for Commit { name, place } in commits {
        let Some(before) = last.insert(name, place) else {
            continue;
        };
        let mut violate = |what: String| {
            violations.push(Violation {
                rule: Rule::StaleCommit,
                entry: None,
                what,
            });
        };
        let (now, then) = (rank(place), rank(before));
        if now < then {
            violate(format!(
                "the server committed epoch {} sequence {} of {name} over epoch {} sequence {}",
                now.0, now.1, then.0, then.1
            ));
        } else if !place.token.is_empty() && place.token < before.token {
            violate(format!(
                "the server committed a checkpoint of {name} that went back in the stream"
            ));
        }
    }
    violations
}

fn rank(place: &Place) -> (i64, i64) {
    (place.epoch, place.sequence)
}

/// Saved checkpoints that a later load did not find.
fn forgotten(history: &History<'_>) -> Vec<Violation> {
    let violation = |term: &super::history::Term<'_>| {
        let saved = history.committed(term.begun)?;
        let is_there = term.from.is_some_and(|from| from.token.as_str() >= saved);
        (!is_there).then(|| {
            let what = "the store had forgotten a checkpoint that it said it had saved".to_owned();
            Violation::at(Rule::StaleCommit, term.begun, what)
        })
    };
    history.terms.iter().filter_map(violation).collect()
}
