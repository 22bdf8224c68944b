//! What is printed, and what goes into the JSON file.

use std::{collections::BTreeMap, env};

use bson::DateTime;
use serde::Serialize;

use crate::{
    Figures, Result,
    comparison::{Bound, Comparison, Plot, Point, Target},
    machine::{Machine, Versions},
    measure::Measure,
};

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) versions: Versions,
    pub(crate) comparisons: Vec<Outcome>,
}

impl Report {
    pub(crate) fn new(versions: Versions) -> Result<Self> {
        let arguments = env::args().skip(1).filter(|argument| argument != "--bench");
        let arguments: Vec<_> = arguments.collect();
        Ok(Self {
            date: DateTime::now().try_to_rfc3339_string()?,
            command: format!("cargo xbench -- {}", arguments.join(" ")),
            machine: Machine::this(),
            versions,
            comparisons: Vec::new(),
        })
    }
}

/// What came of a comparison.
#[derive(Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    about: String,
    events: u64,
    runs: usize,
    pub(crate) contestants: Vec<Measured>,
    targets: Vec<Judged>,
    #[serde(skip)]
    columns: Vec<Measure>,
    #[serde(skip)]
    pub(crate) plot: Option<Plot>,
}

#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) label: String,
    events: u64,
    pub(crate) point: Option<Point>,
    pub(crate) measures: BTreeMap<Measure, Spread>,
}

#[derive(Serialize)]
struct Judged {
    what: &'static str,
    measure: Measure,
    of: String,
    against: Option<String>,
    target: Bound,
    value: Option<Spread>,
    /// Nothing where it could not be measured.
    met: Option<bool>,
}

#[derive(Clone, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    minimum: f64,
    maximum: f64,
    /// Run by run.
    runs: Vec<f64>,
}

impl Spread {
    fn of(values: Vec<f64>) -> Option<Self> {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: *sorted.get(sorted.len() / 2)?,
            minimum: *sorted.first()?,
            maximum: *sorted.last()?,
            runs: values,
        })
    }

    fn text(&self, decimals: usize) -> String {
        let Self {
            median,
            minimum,
            maximum,
            ..
        } = self;
        format!("{median:.decimals$} ({minimum:.decimals$} to {maximum:.decimals$})")
    }
}

impl Outcome {
    /// Of the figures of each contestant, run by run.
    pub(crate) fn new(comparison: &Comparison, runs: usize, figures: &[Vec<Figures>]) -> Self {
        let contestants = comparison.contestants.iter().zip(figures);
        let measured = contestants.map(|(contestant, figures)| {
            let names = figures.iter().flat_map(Figures::keys);
            let spread = |measure: &Measure| {
                let values = figures.iter().filter_map(|run| run.get(measure));
                Some((*measure, Spread::of(values.copied().collect())?))
            };
            Measured {
                label: contestant.label.clone(),
                events: comparison.events / contestant.share,
                point: contestant.point.clone(),
                measures: names.filter_map(spread).collect(),
            }
        });
        let judged = |target: &Target| {
            let label = |contestant: usize| comparison.contestants[contestant].label.clone();
            let value = Spread::of(target.values(figures));
            Judged {
                what: target.what,
                measure: target.measure,
                of: label(target.of),
                against: target.against.map(label),
                target: target.bound,
                met: value.as_ref().map(|v| target.bound.is_met(v.median)),
                value,
            }
        };
        Self {
            name: comparison.name.clone(),
            about: comparison.about.clone(),
            events: comparison.events,
            runs,
            contestants: measured.collect(),
            targets: comparison.targets.iter().map(judged).collect(),
            columns: comparison.columns.clone(),
            plot: comparison.plot,
        }
    }

    pub(crate) fn print(&self) {
        println!("\n{}: {}", self.name, self.about);
        let (events, runs) = (self.events, self.runs);
        println!("{events} events, {runs} runs in turn: median (minimum to maximum)\n");
        let labels = self.contestants.iter().map(|c| c.label.chars().count());
        let wide = labels.max().unwrap_or(0);
        let titles = self.columns.iter().map(|column| column.title().to_owned());
        print_line("", wide, titles);
        for contestant in &self.contestants {
            let cells = self.columns.iter().map(|column| {
                let spread = contestant.measures.get(column);
                spread.map_or_else(|| "-".to_owned(), |spread| spread.text(column.decimals()))
            });
            print_line(&contestant.label, wide, cells);
        }
        for target in &self.targets {
            println!("{}", target.line());
        }
    }
}

fn print_line(label: &str, wide: usize, cells: impl Iterator<Item = String>) {
    let cells = cells.map(|cell| format!(" {cell:>30}"));
    println!("{label:<wide$}{}", cells.collect::<String>());
}

impl Judged {
    fn line(&self) -> String {
        let (words, bound) = match self.target {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        let value = self.value.as_ref().map_or("-".to_owned(), |v| v.text(3));
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let Self { what, of, .. } = self;
        let against = match &self.against {
            Some(against) => format!("{of} / {against}"),
            None => of.clone(),
        };
        format!("=> {what}, {against}: {value}, target {words} {bound:.3}: {met}")
    }
}
