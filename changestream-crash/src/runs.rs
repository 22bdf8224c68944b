//! Many runs, some side by side.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use tempfile::TempDir;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    Result,
    checker::Rule,
    deployment::Pool,
    plan::{Kind, Plan},
    report::{self, Report},
    run::{Outcome, run},
};

/// A run takes seconds; one that gets no further ends by itself long before this.
const RUN_ENDS_WITHIN: Duration = Duration::from_secs(300);
/// How many violations of a run are shown.
const SHOWN: usize = 5;

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many runs
    #[arg(long, default_value_t = 10)]
    runs: u64,
    /// The seed of the first run; the others count up from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many versions are written in a run
    #[arg(long, default_value_t = 10_000)]
    events: u64,
    /// Only runs that are about this
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// How many runs go on side by side
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Writes a report to this file
    #[arg(long)]
    report: Option<PathBuf>,
    /// The service is known to break this rule: ends well with the first run that shows it
    #[arg(long, value_enum)]
    expect: Option<Rule>,
    /// The command that the report names
    #[arg(long, default_value = "changestream-crash run")]
    command: String,
}

/// What the workers share.
struct Shared {
    options: Options,
    begin: Instant,
    next: AtomicU64,
    is_caught: AtomicBool,
    report: Mutex<Report>,
}

/// Carries out the runs; whether all is as it should be.
pub(crate) async fn run_all(options: Options) -> Result<bool> {
    report::note_commit();
    let workers = options.jobs.clamp(1, options.runs.max(1));
    let shared = Arc::new(Shared {
        options: options.clone(),
        begin: Instant::now(),
        next: AtomicU64::new(0),
        is_caught: AtomicBool::new(false),
        report: Mutex::default(),
    });
    println!("{}", report::head());
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        tasks.spawn(work(Arc::clone(&shared)));
    }
    while let Some(worked) = tasks.join_next().await {
        worked??;
    }
    let report = shared.report();
    println!("{}", report.total());
    Ok(match options.expect {
        Some(_) => shared.is_caught.load(Ordering::SeqCst),
        None => report.is_good(),
    })
}

/// Takes one run after the other.
async fn work(shared: Arc<Shared>) -> Result<()> {
    let mut pool = Pool::default();
    loop {
        let index = shared.next.fetch_add(1, Ordering::SeqCst);
        if index >= shared.options.runs || shared.is_caught.load(Ordering::SeqCst) {
            return Ok(());
        }
        let Options {
            seed, events, kind, ..
        } = shared.options;
        let plan = Plan::of(seed + index, events, kind);
        let mut dir = new_dir()?;
        let outcome = match one_run(&mut pool, plan.clone(), &dir).await {
            Err(error) => {
                shared.note(format!(
                    "run {} was made again, with new servers: {error}",
                    plan.seed
                ));
                pool = Pool::default();
                dir = new_dir()?;
                one_run(&mut pool, plan, &dir).await?
            }
            ran => ran?,
        };
        shared.add(&outcome, &pool.version())?;
        if !outcome.is_good() {
            explain(&outcome);
            match shared.options.expect {
                Some(rule) if outcome.findings.count(rule) > 0 => {
                    shared.is_caught.store(true, Ordering::SeqCst);
                }
                Some(_) => {}
                None => println!("    logs: {}", dir.keep().display()),
            }
        }
    }
}

async fn one_run(pool: &mut Pool, plan: Plan, dir: &TempDir) -> Result<Outcome> {
    let deployment = pool.get(plan.deployment).await?;
    let outcome = timeout(RUN_ENDS_WITHIN, run(plan, deployment, dir.path())).await;
    outcome.unwrap_or_else(|_elapsed| Err("it does not end".into()))
}

fn new_dir() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    Ok(builder.prefix("changestream-crash-").tempdir()?)
}

impl Shared {
    /// Takes note of a run. The report is written each time: whoever ends long runs early has those that were made.
    fn add(&self, outcome: &Outcome, servers: &str) -> Result<()> {
        println!("{}", report::line(outcome));
        let mut report = self.report();
        report.add(outcome, self.begin.elapsed());
        if let Some(path) = &self.options.report {
            fs::write(path, report.text(&self.options.command, servers))?;
        }
        Ok(())
    }

    fn note(&self, note: String) {
        println!("    {note}");
        self.report().note(note);
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn explain(outcome: &Outcome) {
    let violations = &outcome.findings.violations;
    for failure in &outcome.lives.failures {
        println!("    {failure}");
    }
    for violation in violations.iter().take(SHOWN) {
        println!("    {violation}");
    }
    if violations.len() > SHOWN {
        println!("    and {} more", violations.len() - SHOWN);
    }
}
