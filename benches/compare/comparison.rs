//! A row of the table: who is compared, on which backlog, and what the outcome shall be.

use std::process::Command;

use bson::Timestamp;
use futures::future::LocalBoxFuture;
use mongodb::{Client, Database};
use serde::{Deserialize, Serialize};

use crate::{Figures, Result, backlog::Backlog, measure::Measure, receiver::Receiver, rows::Row};

/// One comparison. A row has one or several.
pub(crate) struct Comparison {
    /// Unique: the name of the row, and of the part of it where there are several.
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) backlog: Backlog,
    /// What the contestants send to, if they send anything.
    pub(crate) receiver: Option<Receiver>,
    pub(crate) events: u64,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) columns: Vec<Measure>,
    pub(crate) targets: Vec<Target>,
    pub(crate) plot: Option<Plot>,
}

/// What `--plots` draws of a comparison.
#[derive(Clone, Copy)]
pub(crate) struct Plot {
    pub(crate) file: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: Measure,
}

/// Where a contestant is in a plot. One that is nowhere is a level line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) series: &'static str,
    pub(crate) x: f64,
}

pub(crate) struct Contestant {
    pub(crate) label: String,
    /// It gets the first events of the backlog only, one in so many: for those that take too long.
    pub(crate) share: u64,
    /// Spawned tasks have one thread, and not one for each core.
    pub(crate) has_one_worker: bool,
    pub(crate) how: How,
    pub(crate) point: Option<Point>,
}

pub(crate) enum How {
    /// A process of this program.
    Here(Run),
    /// Another program, which gets the task as its last argument and prints the figures, both JSON.
    Program(Box<dyn Fn() -> Command>),
}

pub(crate) type Run = Box<dyn Fn(Job) -> LocalBoxFuture<'static, Result<Figures>>>;

impl Contestant {
    pub(crate) fn new<F>(label: impl Into<String>, run: impl Fn(Job) -> F + 'static) -> Self
    where
        F: Future<Output = Result<Figures>> + 'static,
    {
        Self::of(
            label.into(),
            How::Here(Box::new(move |job| Box::pin(run(job)))),
        )
    }

    pub(crate) fn program(label: &str, command: impl Fn() -> Command + 'static) -> Self {
        Self::of(label.into(), How::Program(Box::new(command)))
    }

    fn of(label: String, how: How) -> Self {
        Self {
            label,
            share: 1,
            has_one_worker: false,
            how,
            point: None,
        }
    }

    pub(crate) fn share(mut self, share: u64) -> Self {
        self.share = share;
        self
    }

    pub(crate) fn with_one_worker(mut self) -> Self {
        self.has_one_worker = true;
        self
    }

    pub(crate) fn at(mut self, series: &'static str, x: f64) -> Self {
        self.point = Some(Point { series, x });
        self
    }
}

/// What a contestant is told, in a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) row: Row,
    pub(crate) comparison: String,
    pub(crate) contestant: usize,
    pub(crate) database: String,
    /// The operation time before the backlog, in seconds, and the increment within that second.
    pub(crate) time: u32,
    pub(crate) increment: u32,
    /// Where the receiver is, if there is one. Peers know of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receiver: Option<String>,
    pub(crate) events: u64,
}

/// The task in the hands of a contestant.
pub(crate) struct Job {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) start: Timestamp,
    pub(crate) receiver: Option<String>,
    pub(crate) events: u64,
}

impl Job {
    pub(crate) fn new(task: &Task, client: Client) -> Self {
        Self {
            database: client.database(&task.database),
            start: Timestamp {
                time: task.time,
                increment: task.increment,
            },
            receiver: task.receiver.clone(),
            events: task.events,
            client,
        }
    }

    /// Where the receiver is.
    pub(crate) fn receiver(&self) -> Result<&str> {
        let receiver = self.receiver.as_deref();
        Ok(receiver.ok_or("the comparison has no receiver")?)
    }
}

/// What a measure of a contestant shall be, by itself or against that of another in the same run.
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) measure: Measure,
    pub(crate) of: usize,
    pub(crate) against: Option<usize>,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

impl Target {
    /// Of the rate of the second contestant against that of the first.
    pub(crate) fn rate(at_least: f64) -> Self {
        Self {
            what: "events/s",
            measure: Measure::EventsPerSecond,
            of: 1,
            against: Some(0),
            bound: Bound::AtLeast(at_least),
        }
    }

    /// In each run, from the figures of all contestants.
    pub(crate) fn values(&self, figures: &[Vec<Figures>]) -> Vec<f64> {
        let of = |contestant: usize| {
            let runs = figures[contestant].iter();
            runs.map(|run| run.get(&self.measure).copied())
        };
        let least = self.measure.least();
        match self.against {
            None => of(self.of).flatten().collect(),
            Some(other) => of(self.of)
                .zip(of(other))
                .filter_map(|(a, b)| Some(a?.max(least) / b?.max(least)))
                .collect(),
        }
    }
}
