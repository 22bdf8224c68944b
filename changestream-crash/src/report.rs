//! The table of the runs.

use std::{
    collections::BTreeMap, fmt::Write as _, fs, process::Command, sync::LazyLock, thread,
    time::Duration,
};

use changestream::bson;

use crate::{checker::Rule, run::Outcome};

/// What came of all runs.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    points: BTreeMap<&'static str, u32>,
    notes: Vec<String>,
    took: Duration,
}

/// The figures of a run, or of all.
#[derive(Clone, Debug, Default)]
struct Row {
    seed: u64,
    kind: String,
    deployment: String,
    faults: Vec<String>,
    figures: [usize; FIGURES.len()],
    took: Duration,
}

const FIGURES: [&str; 16] = [
    "kills", "points", "stops", "pauses", "exits", "events", "rows", "letters", "commits",
    "duplic.", "open", "lost", "over", "order", "commit", "other",
];
/// The first of the figures that must be 0.
const LOST: usize = 11;

impl Row {
    fn of(outcome: &Outcome) -> Self {
        let (findings, lives) = (&outcome.findings, &outcome.lives);
        let faults = outcome.plan.faults.iter();
        Self {
            seed: outcome.plan.seed,
            kind: outcome.plan.kind.to_string(),
            deployment: outcome.plan.deployment.to_string(),
            faults: faults.map(|fault| fault.kind.to_string()).collect(),
            figures: [
                lives.killed as usize,
                lives.points.len(),
                lives.stopped as usize,
                lives.paused as usize,
                lives.hindered as usize,
                findings.events,
                findings.rows,
                findings.letters,
                findings.commits,
                findings.duplicates,
                findings.uncommitted,
                findings.count(Rule::Lost),
                findings.count(Rule::OverBound),
                findings.count(Rule::Order),
                findings.count(Rule::EarlyCommit) + findings.count(Rule::StaleCommit),
                findings.count(Rule::Identity) + lives.failures.len(),
            ],
            took: outcome.took,
        }
    }

    fn line(&self, name: &str) -> String {
        let mut line = format!("{name:>10}  {:<8} {:<7}", self.kind, self.deployment);
        for (figure, title) in self.figures.iter().zip(FIGURES) {
            let width = title.len().max(6);
            write!(line, " {figure:>width$}").expect("into a string");
        }
        let faults = self.faults.join(" ");
        format!("{line} {:>7.1}  {faults}", self.took.as_secs_f64())
    }
}

/// The first line of the table.
pub(crate) fn head() -> String {
    let mut line = format!("{:>10}  {:<8} {:<7}", "seed", "kind", "server");
    for title in FIGURES {
        let width = title.len().max(6);
        write!(line, " {title:>width$}").expect("into a string");
    }
    format!("{line} {:>7}  faults", "seconds")
}

/// The line of a run.
pub(crate) fn line(outcome: &Outcome) -> String {
    Row::of(outcome).line(&outcome.plan.seed.to_string())
}

impl Report {
    /// Adds a run, so long after the first one began.
    pub(crate) fn add(&mut self, outcome: &Outcome, took: Duration) {
        self.took = took;
        self.rows.push(Row::of(outcome));
        self.rows.sort_by_key(|row| row.seed);
        for point in &outcome.lives.points {
            *self.points.entry(point).or_default() += 1;
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Whether any rule was broken.
    pub(crate) fn is_good(&self) -> bool {
        let bad = self.rows.iter().flat_map(|row| &row.figures[LOST..]);
        bad.sum::<usize>() == 0
    }

    /// The line of all runs, and what they came by.
    pub(crate) fn total(&self) -> String {
        let mut total = Row {
            kind: format!("{} runs", self.rows.len()),
            took: self.took,
            ..Row::default()
        };
        for row in &self.rows {
            for (sum, (figure, title)) in total
                .figures
                .iter_mut()
                .zip(row.figures.iter().zip(FIGURES))
            {
                // Of this one the most counts.
                *sum = match title {
                    "open" => (*sum).max(*figure),
                    _ => *sum + figure,
                };
            }
        }
        let mut points = format!("died at {} points:", self.points.len());
        for (point, times) in &self.points {
            write!(points, " {point} {times}").expect("into a string");
        }
        for note in &self.notes {
            write!(points, "\n{note}").expect("into a string");
        }
        format!("{}\n\n{points}\n\n{LEGEND}", total.line("all"))
    }

    /// The whole report as a text to keep.
    pub(crate) fn text(&self, command: &str, servers: &str) -> String {
        let mut text = heading("Crash runs", command, servers);
        text.push_str(&head());
        text.push('\n');
        for row in &self.rows {
            text.push_str(&row.line(&row.seed.to_string()));
            text.push('\n');
        }
        text + &self.total()
    }
}

static COMMIT: LazyLock<String> = LazyLock::new(|| {
    let describe = [
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty",
        "--exclude=*",
    ];
    first_line("git", &describe)
});

/// Takes note of what is checked out before long work: something else may be when that is over.
pub(crate) fn note_commit() {
    LazyLock::force(&COMMIT);
}

/// What a text to keep begins with: when, how and with what it came about.
pub(crate) fn heading(title: &str, command: &str, servers: &str) -> String {
    let now = bson::DateTime::now().try_to_rfc3339_string();
    let kernel = first_line("uname", &["-r"]);
    let kernel = kernel.split('-').next().unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{title} of changestream {}\n\ndate      {}\ncommand   {command}\ncommit    {}\nmachine   {cores} cores, {}, \
         Linux {kernel}\nrustc     {}\nMongoDB   {servers}\n\n",
        env!("CARGO_PKG_VERSION"),
        now.unwrap_or_default(),
        *COMMIT,
        system(),
        first_line("rustc", &["--version"]),
    )
}

const LEGEND: &str = "\
kind     single: one process after the other; standby: two replicas, one of them active; shared: two replicas that share
         the partitions; snapshot: of documents that were there before; split: with events of more than 16 MB
kills    processes of the service ended with SIGKILL; points: that died, or stopped, at a named point; stops: ended with
         SIGTERM; pauses: stopped for longer than the lease, and then let go on; exits: ended by themselves while a
         fault lasted
events   acknowledged by the server; rows: documents that a snapshot showed; duplic.: handled again after a restart;
         open: the most that were done and not covered by a checkpoint when a process ended
lost     never done; over: duplicates or open events beyond the bound; order: of a key; commit: early or stale
         checkpoints; other: identities, and ends of the service that nothing excuses
";

fn first_line(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn system() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("unknown").trim_matches('"').to_owned()
}
