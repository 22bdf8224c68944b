//! Kills a service that is built on `changestream`, its server and its network in every way, again and again, and checks
//! that nothing is lost. `cargo xtask crash` builds and runs it.

mod checker;
mod deployment;
mod log;
mod plan;
mod report;
mod run;
mod runs;
mod service;
mod writer;

use std::{error::Error, io::Read as _, path::PathBuf, process::ExitCode, thread};

use clap::{Parser, Subcommand};

/// What can go wrong is printed, and ends all.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Debug, Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Carries out runs
    Run(runs::Options),
    /// Shows the plan of a seed
    Plan {
        seed: u64,
        #[arg(long, default_value_t = 10_000)]
        events: u64,
        #[arg(long, value_enum)]
        kind: Option<plan::Kind>,
    },
    /// Judges a run again by the logs in its folder
    Check {
        dir: PathBuf,
        /// How many events may be done and not covered by a checkpoint
        #[arg(long, default_value_t = usize::MAX)]
        uncommitted: usize,
        /// How many events a process may have in flight
        #[arg(long, default_value_t = usize::MAX)]
        in_flight: usize,
        /// Whether processes shared the work
        #[arg(long)]
        shared: bool,
    },
    /// Lets one process of the service work for long, while its server and its network fail
    Soak(run::soak::Options),
    /// Is the service that is killed
    Service(service::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Service(options) => {
            end_with_supervisor();
            return service::run(options).await;
        }
        Task::Run(options) => runs::run_all(options).await,
        Task::Soak(options) => run::soak::soak(options).await,
        Task::Plan { seed, events, kind } => {
            println!("{:#?}", plan::Plan::of(seed, events, kind));
            Ok(true)
        }
        Task::Check {
            dir,
            uncommitted,
            in_flight,
            shared,
        } => {
            let limits = checker::Limits {
                uncommitted,
                in_flight,
                is_shared: shared,
            };
            run::judge(&dir, limits).map(|findings| {
                println!("{findings:#?}");
                findings.violations.is_empty()
            })
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when the one that started it has ended, which holds the other end of its standard input.
fn end_with_supervisor() {
    thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(1);
    });
}
