use std::{fmt::Write as _, time::Duration};

use super::{Faults, Options, measure::Measures};
use crate::{
    checker::{Findings, Rule},
    report::heading,
};

const MINUTE: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) options: Options,
    pub(super) findings: Findings,
    pub(super) stopped_well: bool,
    pub(super) faults: Faults,
    pub(super) measures: Measures,
}

impl Report {
    /// The memory after the warm-up, which is a sixth of the time, and at the end; each the median of a sixth.
    fn memory(&self) -> (f64, f64) {
        let took = self.measures.took();
        let part = took / 6;
        let before = self.measures.memory(part, part * 2);
        (before, self.measures.memory(took - part, took))
    }

    pub(super) fn is_good(&self) -> bool {
        let (before, after) = self.memory();
        self.findings.violations.is_empty()
            && self.stopped_well
            && after - before <= self.options.growth
            && self.measures.lag().0 <= self.options.lag
    }

    /// The table.
    pub(super) fn figures(&self) -> String {
        let findings = &self.findings;
        let (before, after) = self.memory();
        let (lag, behind) = self.measures.lag();
        let lost = findings.count(Rule::Lost);
        let faults = self.faults.iter();
        let faults: Vec<_> = faults
            .map(|(kind, times)| format!("{kind} {times}"))
            .collect();
        let rows = [
            ("events written", findings.events.to_string()),
            ("events handled", (findings.events - lost).to_string()),
            ("of them dead letters", findings.letters.to_string()),
            ("events lost", lost.to_string()),
            ("events duplicated", findings.duplicates.to_string()),
            (
                "other violations",
                (findings.violations.len() - lost).to_string(),
            ),
            ("checkpoints saved", findings.commits.to_string()),
            ("faults", self.faults.values().sum::<u32>().to_string()),
            ("of which kinds", faults.join(", ")),
            (
                "longest lag",
                format!("{lag:.1} s (bound {:.1})", self.options.lag),
            ),
            ("most events behind", behind.to_string()),
            ("memory after warm-up", format!("{before:.1} MiB")),
            (
                "memory at the end",
                format!(
                    "{after:.1} MiB: {:+.1} (bound {:+.1})",
                    after - before,
                    self.options.growth
                ),
            ),
            (
                "memory at its peak",
                format!("{:.1} MiB", self.measures.peak()),
            ),
            (
                "stopped",
                if self.stopped_well {
                    "well"
                } else {
                    "not well"
                }
                .to_owned(),
            ),
        ];
        let mut text = String::new();
        for (name, value) in rows {
            writeln!(text, "{name:<22}{value}").expect("into a string");
        }
        for violation in findings.violations.iter().take(20) {
            writeln!(text, "    {violation}").expect("into a string");
        }
        text
    }

    /// The whole report as a text to keep.
    pub(super) fn text(&self, command: &str, servers: &str) -> String {
        let options = &self.options;
        let mut text = heading("Soak", command, servers);
        writeln!(
            text,
            "{} minutes, {} events a second, seed {}\n\n{}",
            options.minutes,
            options.rate,
            options.seed,
            self.figures()
        )
        .expect("into a string");
        writeln!(text, "minute     done  memory MiB  longest lag s").expect("into a string");
        let minutes = self.measures.took().as_secs() / 60;
        for minute in 0..u32::try_from(minutes).unwrap_or(u32::MAX) {
            let (from, to) = (MINUTE * minute, MINUTE * (minute + 1));
            let samples = || self.measures.between(from, to);
            let done = samples().map(|sample| sample.done).max();
            let lag = samples().map(|sample| sample.lag).max();
            writeln!(
                text,
                "{:>6} {:>8}  {:>10.1}  {:>13.2}",
                minute + 1,
                done.unwrap_or_default(),
                self.measures.memory(from, to),
                lag.unwrap_or_default().as_secs_f64()
            )
            .expect("into a string");
        }
        text
    }
}
