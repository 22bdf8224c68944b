use changestream_testkit::{Mongod, ServerVersion, SinkServer};
use clap::{Args, ValueEnum};

use crate::{
    command::{self, Outcome, Result, cargo, first_line, mongodb_uri},
    kafka_tls,
};

const OLDEST: ServerVersion = ServerVersion::V4_4;
/// The modules of the facade's tests that must also pass on the oldest version: all that a server has a part in.
const OLDEST_RUNS: &[&str] = &[
    "batches",
    "checkpoints",
    "custom_extractors",
    "dead_letter_stores",
    "dead_letters",
    "extractors",
    "failover",
    "failures",
    "faults",
    "filter_properties",
    "filter_scopes",
    "filters",
    "health",
    "images",
    "invalidate",
    "lanes",
    "layers",
    "lease",
    "lost_history",
    "network",
    "partitions",
    "policies",
    "projection",
    "projection_properties",
    "projection_stage",
    "replay",
    "resume",
    "routes",
    "shutdown",
    "snapshot",
    "snapshot_order",
    "snapshot_progress",
    "startup",
    "stored_positions",
    "telemetry",
];
const NEXTEST_VERSION: &str = "0.9.143";
const VERSION_VARIABLE: &str = "CHANGESTREAM_MONGOD_VERSION";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs only one of the two passes
    #[arg(long, value_enum)]
    only: Option<Pass>,
    /// Goes to the test runner, and so narrows the newest pass down to some tests, unless --only says otherwise
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pass {
    /// All tests, on the newest version
    Newest,
    /// The core tests, on the oldest version that is supported
    Oldest,
}

pub(crate) fn run(options: &Options) -> Result {
    let passes = match options.only {
        Some(pass) => vec![pass],
        None if !options.args.is_empty() => vec![Pass::Newest],
        None if mongodb_uri().is_some() => {
            eprintln!("MONGODB_URI is set: the tests run on that server, and on no older one");
            vec![Pass::Newest]
        }
        None => vec![Pass::Newest, Pass::Oldest],
    };
    let nextest = has_nextest();
    for pass in &passes {
        find_server(*pass)?;
    }
    if passes.contains(&Pass::Newest) {
        find_sink_servers();
    }
    let all_newest = passes.contains(&Pass::Newest) && options.args.is_empty();
    for pass in passes {
        let mut outcome = run_pass(pass, nextest, &options.args)?;
        // nextest leaves these out.
        if outcome == Outcome::Success && all_newest && pass == Pass::Newest && nextest {
            outcome =
                command::run(cargo().args(["test", "--doc", "--workspace", "--all-features"]))?;
        }
        if outcome != Outcome::Success {
            return Ok(outcome);
        }
    }
    match all_newest {
        true => kafka_tls::test(),
        false => Ok(Outcome::Success),
    }
}

fn run_pass(pass: Pass, nextest: bool, args: &[String]) -> Result {
    let mut command = cargo();
    command.args(if nextest {
        &["nextest", "run"][..]
    } else {
        &["test"]
    });
    command.args(["--all-features", "--workspace"]);
    if nextest && std::env::var_os("CI").is_some() {
        command.args(["--profile", "ci"]);
    }
    if pass == Pass::Oldest {
        command.env(VERSION_VARIABLE, OLDEST.to_string());
        command.args(["--test", "suite"]);
    }
    command.args(args);
    if pass == Pass::Oldest {
        command
            .arg("--")
            .args(OLDEST_RUNS.iter().map(|module| format!("{module}::")));
    }
    command::run(&mut command)
}

/// Fetches the server of a pass now, so that no test waits for it. With `MONGODB_URI` most tests do without.
fn find_server(pass: Pass) -> Result<()> {
    let wanted = (pass == Pass::Oldest).then_some(OLDEST);
    match Mongod::find_or_fetch(wanted) {
        Err(error) if mongodb_uri().is_some() => {
            eprintln!("tests that kill their server will fail: {error}");
        }
        found => {
            found?;
        }
    }
    Ok(())
}

/// Fetches the servers that sinks deliver to, so that no test waits for them. Most tests do without.
fn find_sink_servers() {
    for server in SinkServer::ALL {
        if let Err(error) = server.find_or_fetch() {
            eprintln!("tests that deliver to {server} will fail: {error}");
        }
    }
}

/// Whether nextest is there, or can be installed.
fn has_nextest() -> bool {
    if first_line("cargo-nextest", &["nextest", "--version"]).is_some() {
        return true;
    }
    eprintln!("cargo-nextest is not there: installing {NEXTEST_VERSION}, which takes some minutes");
    let mut install = cargo();
    install.args(["install", "cargo-nextest", "--locked", "--quiet"]);
    let installed = command::run(install.args(["--version", NEXTEST_VERSION]));
    let installed = matches!(installed, Ok(Outcome::Success));
    if !installed {
        eprintln!(
            "cargo-nextest {NEXTEST_VERSION} cannot be installed: `cargo test` runs the tests instead"
        );
    }
    installed
}
