//! This crate against the driver's own loop, row by row of the table of targets. `cargo xbench` starts a server and
//! runs it; `MONGODB_URI` names another.
//!
//! Each contestant has a process of its own, and they take turns on one backlog; a ratio is of two that ran one
//! after the other. A new row is a file in `rows/` and its name in `rows/mod.rs`.

mod backlog;
mod comparison;
mod driver;
mod live;
mod machine;
mod measure;
mod plot;
mod process;
mod receiver;
mod report;
mod rows;
mod sdk;

use std::{collections::BTreeMap, env, error::Error, fs, path::PathBuf};

use clap::Parser;
use mongodb::Client;

use crate::{
    backlog::Backlog,
    comparison::{Comparison, How, Job, Task},
    machine::Versions,
    measure::Measure,
    report::{Outcome, Report},
    rows::Row,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Figures = BTreeMap<Measure, f64>;

#[derive(Debug, Parser)]
#[command(name = "cargo xbench --", about)]
struct Cli {
    /// The rows of the table to measure; all of them where none is named
    rows: Vec<Row>,
    /// Events of a backlog. Rows that take longer for each have a fixed share of it
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Runs that count, after one to warm up
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Writes all figures, with machine and versions, into this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draws plots of the row `growth` into this folder
    #[arg(long)]
    plots: Option<PathBuf>,
    /// What a contestant's process is told
    #[arg(long, hide = true)]
    task: Option<String>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let client = Client::with_uri_str(server_uri()?).await?;
    if let Some(task) = &cli.task {
        let figures = contest(&serde_json::from_str(task)?, client).await?;
        println!("{}", serde_json::to_string(&figures)?);
        // Before the driver notices that its runtime ends under its last commands.
        std::process::exit(0);
    }
    let mut report = Report::new(Versions::of(&client).await?)?;
    let rows = match cli.rows.as_slice() {
        [] => Row::TABLE,
        rows => rows,
    };
    for row in rows {
        for comparison in row.comparisons(cli.events)? {
            let outcome = compare(&client, *row, &comparison, cli.runs).await?;
            outcome.print();
            report.comparisons.push(outcome);
            // After each, so that a failure leaves what there is.
            if let Some(file) = &cli.json {
                fs::write(file, serde_json::to_string_pretty(&report)?)?;
            }
        }
    }
    if let Some(folder) = &cli.plots {
        plot::draw(&report.comparisons, folder)?;
    }
    Ok(())
}

fn server_uri() -> Result<String> {
    let uri = env::var("MONGODB_URI");
    Ok(uri.map_err(|_| "MONGODB_URI is not set; `cargo xbench` starts a server and sets it")?)
}

async fn compare(
    client: &Client,
    row: Row,
    comparison: &Comparison,
    runs: usize,
) -> Result<Outcome> {
    eprintln!("{} ..", comparison.name);
    let database = format!("changestream_bench_{}", std::process::id());
    client.database(&database).drop().await?;
    let events = comparison.events;
    let mut start = comparison.backlog.write(client, &database, events).await?;
    let receiver = match comparison.receiver {
        Some(receiver) => Some(receiver.start().await?),
        None => None,
    };
    let mut figures = vec![Vec::new(); comparison.contestants.len()];
    let live = matches!(comparison.backlog, Backlog::Live);
    let mut written = 0;
    for run in 0..=runs {
        for (contestant, figures) in figures.iter_mut().enumerate() {
            if live {
                start = backlog::operation_time(&client.database(&database)).await?;
            }
            let task = Task {
                row,
                comparison: comparison.name.clone(),
                contestant,
                database: database.clone(),
                time: start.time,
                increment: start.increment,
                receiver: receiver.as_ref().map(|running| running.uri.clone()),
                events: (events / comparison.contestants[contestant].share).max(1),
            };
            let contestant = &comparison.contestants[contestant];
            let measuring = process::run(contestant, &task, &comparison.columns);
            let measured = if live {
                let database = client.database(&database);
                live::write_during(measuring, &database, &mut written).await?
            } else {
                measuring.await?
            };
            if run > 0 {
                figures.push(measured);
            }
        }
    }
    client.database(&database).drop().await?;
    Ok(Outcome::new(comparison, runs, &figures))
}

/// The work of a contestant's process.
async fn contest(task: &Task, client: Client) -> Result<Figures> {
    let comparisons = task.row.comparisons(task.events)?;
    let mut named = comparisons
        .iter()
        .filter(|comparison| comparison.name == task.comparison);
    let comparison = named.next().ok_or("no such comparison")?;
    match &comparison.contestants[task.contestant].how {
        How::Here(run) => run(Job::new(task, client)).await,
        How::Program(_) => Err("it is another program".into()),
    }
}
