//! Sets up what the repository's commands need, then runs them.
//!
//! `cargo xtest`, `cargo demo` and `cargo xbench` are short for `cargo xtask test`, `demo` and `bench`.

mod command;
#[cfg(unix)]
mod crash;
mod demo;
mod doctor;
mod fuzz;
mod kafka_tls;
mod simulate;
#[cfg(unix)]
mod soak;
mod test;

use std::{error::Error, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::command::Outcome;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about, version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Shows what is there of what the other tasks need, and where
    Doctor(doctor::Options),
    /// Runs all tests on the newest server, and the core ones on the oldest
    Test(test::Options),
    /// Runs the engine in simulated worlds with faults, each decided by a seed
    Simulate(simulate::Options),
    /// Feeds decoders, filters and the macro what they did not expect
    Fuzz(fuzz::Options),
    /// Runs the shop example on a server of its own, or on that of MONGODB_URI
    Demo(demo::DemoOptions),
    /// Runs the benchmark on a server of its own, or on that of MONGODB_URI
    Bench(demo::BenchOptions),
    /// Kills a service in every way and checks that nothing is lost
    #[cfg(unix)]
    Crash(crash::Options),
    /// Lets a service work for long while its server and its network fail, and watches its memory and lag
    #[cfg(unix)]
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Doctor(options) => doctor::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Simulate(options) => simulate::simulate(&options),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Demo(options) => demo::demo(&options),
        Task::Bench(options) => demo::bench(&options),
        #[cfg(unix)]
        Task::Crash(options) => crash::crash(&options),
        #[cfg(unix)]
        Task::Soak(options) => soak::soak(&options),
    };
    match outcome {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Failure(code)) => ExitCode::from(code),
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

fn report(error: &dyn Error) {
    eprint!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
}
