use std::process::Command;

use changestream_testkit::{MongoServer, MongoServerBuilder};
use clap::Args;
use tokio::{runtime::Runtime, signal::ctrl_c};

use crate::command::{Result, cargo, mongodb_uri, run};

/// Room for the backlogs, so that reading them is not what is measured.
const BENCH_CACHE_GB: f64 = 2.0;

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// How many writes to the database the demo makes
    #[arg(long)]
    events: Option<u64>,
    /// Goes on until Ctrl-C
    #[arg(long)]
    keep_running: bool,
    /// Further arguments of the example
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Arguments of the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn demo(options: &DemoOptions) -> Result {
    let mut command = cargo();
    command.args([
        "run",
        "--quiet",
        "--example",
        "shop",
        "--all-features",
        "--",
    ]);
    if let Some(events) = options.events {
        command.args(["--events", &events.to_string()]);
    }
    if options.keep_running {
        command.arg("--keep-running");
    }
    run_with_server(command.args(&options.args), MongoServer::builder())
}

pub(crate) fn bench(options: &BenchOptions) -> Result {
    let mut command = cargo();
    command.args(["bench", "--bench", "compare", "--all-features", "--"]);
    let server = MongoServer::builder().cache_size_gb(BENCH_CACHE_GB);
    run_with_server(command.args(&options.args), server)
}

/// Runs a command with `MONGODB_URI` set, and gives it this server if there is none. On Ctrl-C the command decides when to end.
fn run_with_server(command: &mut Command, server: MongoServerBuilder) -> Result {
    let runtime = Runtime::new()?;
    let server = match mongodb_uri() {
        Some(_) => None,
        None => Some(runtime.block_on(server.start())?),
    };
    if let Some(server) = &server {
        command.env("MONGODB_URI", server.uri());
    }
    // From the first poll on, the signal no longer ends this process, and with it the server.
    runtime.spawn(async { while ctrl_c().await.is_ok() {} });
    let outcome = run(command);
    drop(server);
    outcome
}
