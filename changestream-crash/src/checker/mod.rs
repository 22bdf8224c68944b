//! Judges a run by its logs alone. It shares no code with the SDK.
//!
//! # What the words mean
//!
//! The writer gives each document the versions 1, 2, 3, .. in turn; each version is one change event.
//!
//! - A **term** is the work of one process from where it loaded its checkpoint: a restart begins one.
//! - An event is **handled** when the handler had its effect, and **done** when the handler then reported success, or
//!   when the server acknowledged the event's dead letter.
//! - A checkpoint **covers** an event when the event's token is not above its own.
//! - A term is **woken** when its process goes on after it was stopped for longer than its lease. Another one may have
//!   taken over meanwhile, and the process had no chance to know.
//!
//! # The rules
//!
//! - **Lost.** Every version that the server acknowledged to the writer is done. Of what was there before a snapshot
//!   began, the last version of each document is, or a later one.
//! - **Duplicates.** An event is done once in a term. A term handles again only what no checkpoint covered that was
//!   acknowledged before the term began, or that it loaded: what was in flight, and what was done since the last commit.
//!   At the end of a term no more events than the limit are done and uncovered.
//! - **Order.** In a term the versions of a key follow each other without a gap, each done before the next is handled. A
//!   term begins with a key no further than one version above what was done before it: so versions go back only where a
//!   term begins, and then the whole suffix comes again. Once a term has handled a key, no earlier term does, but for
//!   what a woken one had in flight. A term that has handled a version is not shown an older one by a snapshot.
//! - **Commits.** When a checkpoint is about to be saved, every event that it covers is done. What the store says it
//!   has saved is above all that it had saved before the attempt, by epoch and sequence, and does not go back in the
//!   stream. What it loads is not below what it had saved. And of what the server has committed, by its own account,
//!   nothing is below what it had committed before.
//! - **Identity.** A version comes with one event id and one token, and each belongs to one version that was written.
//!
//! Where replicas share the work, nothing tells which of a process's checkpoints are about which events: then loss,
//! order, identity and what the server has committed are judged, and the rest is not.

mod commit;
mod duplicate;
mod history;
mod identity;
mod loss;
mod order;
#[cfg(test)]
mod tests;

use std::fmt;

use clap::ValueEnum;

use crate::log::{Commit, Entry, Version};
use history::History;

/// The logs of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logs {
    /// What the server acknowledged to the writer before the service was started, where that takes a snapshot.
    pub(crate) before: Vec<Version>,
    /// What it acknowledged since then.
    pub(crate) acknowledged: Vec<Version>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) commits: Vec<Commit>,
}

/// What a run is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many events may be done and not covered by a checkpoint.
    pub(crate) uncommitted: usize,
    /// How many events a process may have in flight.
    pub(crate) in_flight: usize,
    /// Whether processes share the work.
    pub(crate) is_shared: bool,
}

/// A rule that a service may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    Lost,
    OverBound,
    Order,
    EarlyCommit,
    StaleCommit,
    Identity,
}

/// That a rule was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    /// Which entry of the service's log shows it, from 0.
    pub(crate) entry: Option<usize>,
    pub(crate) what: String,
}

/// What the logs of a run show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Versions that the server acknowledged.
    pub(crate) events: usize,
    /// Documents of snapshots that were handled.
    pub(crate) rows: usize,
    /// Events handled again after a restart, once per restart.
    pub(crate) duplicates: usize,
    /// The most events that were done and not covered by a checkpoint at the end of a term.
    pub(crate) uncommitted: usize,
    /// Dead letters.
    pub(crate) letters: usize,
    /// Checkpoints saved.
    pub(crate) commits: usize,
    pub(crate) violations: Vec<Violation>,
}

impl Findings {
    pub(crate) fn count(&self, rule: Rule) -> usize {
        let of_rule = self.violations.iter();
        of_rule.filter(|violation| violation.rule == rule).count()
    }
}

/// Judges a run.
pub(crate) fn check(logs: &Logs, limits: Limits) -> Findings {
    let history = History::new(&logs.entries);
    let duplicates = duplicate::check(&history, limits);
    let mut violations = loss::check(logs, &history);
    violations.extend(order::check(logs, &history, limits));
    violations.extend(identity::check(logs, &history));
    violations.extend(commit::stale_on_server(&logs.commits));
    if !limits.is_shared {
        violations.extend(duplicates.violations);
        violations.extend(commit::check(&history));
    }
    Findings {
        events: logs.acknowledged.len(),
        rows: history.rows.len(),
        duplicates: duplicates.count,
        uncommitted: match limits.is_shared {
            true => 0,
            false => duplicates.uncommitted,
        },
        letters: history.handled.iter().filter(|h| h.is_letter).count(),
        commits: history.saved().count(),
        violations,
    }
}

impl Violation {
    fn at(rule: Rule, entry: usize, what: String) -> Self {
        let entry = Some(entry);
        Self { rule, entry, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)?;
        self.entry
            .map_or(Ok(()), |entry| write!(f, " (entry {entry})"))
    }
}
