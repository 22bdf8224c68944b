//! Looks after the dead letters and checkpoints of services that are built on changestream.

mod checkpoints;
mod confirm;
mod connection;
mod dead_letters;
mod failure;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{connection::Connection, failure::Failure, output::Output};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  not done, or not all of it
  2  wrong usage; nothing was done";

/// Looks after the dead letters and checkpoints of services that are built on changestream
#[derive(Debug, Parser)]
#[command(name = "changestream", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    subject: Subject,
    #[command(flatten)]
    connection: Connection,
    /// Prints one JSON document
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// What handlers and sinks failed on for good
    #[command(subcommand, after_help = EXIT_CODES)]
    DeadLetters(dead_letters::Command),
    /// How far runtimes have come
    #[command(subcommand, after_help = EXIT_CODES)]
    Checkpoints(checkpoints::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("threads and timers can be had");
    match runtime.block_on(run(&cli)) {
        Ok(code) => code,
        Err(Failure::Usage(kind, message)) => Cli::command().error(kind, message).exit(),
        Err(Failure::Failed(error)) => {
            eprintln!("error: {}", failure::chain(&*error));
            ExitCode::FAILURE
        }
        // Whoever read the output has enough of it.
        Err(Failure::BrokenPipe) => ExitCode::FAILURE,
    }
}

async fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let output = Output { json: cli.json };
    match &cli.subject {
        Subject::DeadLetters(command) => command.run(&cli.connection, output).await,
        Subject::Checkpoints(command) => command.run(&cli.connection, output).await,
    }
}
