use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use changestream_testkit::Mongod;
use clap::Args;

use crate::{
    command::{Outcome, Result, cargo, run, target_dir},
    simulate::MUTANT,
};

/// What can be broken on purpose, by the variable [`MUTANT`], and the rule of the checker that must catch each, in which
/// kind of runs.
const MUTANTS: &[(&str, &str, &str)] = &[
    ("commit_before_effect", "early-commit", "single"),
    ("post_batch_in_flight", "early-commit", "single"),
    ("random_lane", "order", "single"),
    ("no_fence", "stale-commit", "standby"),
];
/// Runs that may pass before a mutant is caught.
const MUTANT_RUNS: u64 = 20;
/// The package and the program.
const CRASH: &str = "changestream-crash";

#[derive(Debug, Args)]
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
    /// Only runs that are about this: single, standby, shared, snapshot or split
    #[arg(long)]
    kind: Option<String>,
    /// How many runs go on side by side
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Writes a dated report to this file
    #[arg(long)]
    report: Option<PathBuf>,
    /// Checks the checker instead: that each rule, when it is broken, is caught
    #[arg(long)]
    mutants: bool,
    /// Only this one of them
    #[arg(long, requires = "mutants")]
    only: Option<String>,
    /// Builds with optimization: worth it for many runs
    #[arg(long)]
    release: bool,
}

pub(crate) fn crash(options: &Options) -> Result {
    // Now, so that no run waits for it.
    Mongod::find_or_fetch(None)?;
    if options.mutants {
        return catch_mutants(options);
    }
    let mut command = Command::new(build(options.release)?);
    command.args(run_args(options.runs, options));
    if let Some(kind) = &options.kind {
        command.args(["--kind", kind]);
    }
    if let Some(report) = &options.report {
        command.arg("--report").arg(report);
    }
    let words = env::args().skip(1).collect::<Vec<_>>().join(" ");
    run(command.args(["--command", &format!("cargo xtask {words}")]))
}

fn catch_mutants(options: &Options) -> Result {
    let program = build(options.release)?;
    for (mutant, rule, kind) in MUTANTS {
        if options.only.as_deref().is_some_and(|only| only != *mutant) {
            continue;
        }
        eprintln!("{mutant}");
        let mut command = Command::new(&program);
        command
            .env(MUTANT, mutant)
            .args(run_args(MUTANT_RUNS, options));
        if run(command.args(["--expect", rule, "--kind", kind]))? != Outcome::Success {
            eprintln!("the mutant {mutant} was not caught in {MUTANT_RUNS} runs");
            return Ok(Outcome::Failure(1));
        }
    }
    Ok(Outcome::Success)
}

fn run_args(runs: u64, options: &Options) -> Vec<String> {
    let Options {
        seed, events, jobs, ..
    } = options;
    format!("run --runs {runs} --seed {seed} --events {events} --jobs {jobs}")
        .split(' ')
        .map(str::to_owned)
        .collect()
}

/// Builds the service with its crash points; the program.
///
/// Only the workspace's own packages are built anew: a wrapper of the compiler adds the flag for them alone. `RUSTFLAGS`
/// would build all dependencies again as well.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let target = target_dir()?;
    let dir = target.join("crash");
    fs::create_dir_all(&dir)?;

    let wrapper = dir.join("rustc");
    write_wrapper(&wrapper)?;
    let mut command = cargo();
    // With the features that all else is built with, for the sake of the dependencies.
    command.args([
        "build",
        "--quiet",
        "--workspace",
        "--all-features",
        "--bin",
        CRASH,
    ]);
    if release {
        command.arg("--release");
    }
    command.env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    if run(&mut command)? != Outcome::Success {
        return Err(format!("{CRASH} cannot be built").into());
    }
    // Builds without the flag go to the same place.
    let built = target.join(if release { "release" } else { "debug" });
    let program = dir.join(CRASH);
    fs::copy(built.join(CRASH), &program)?;
    Ok(program)
}

/// Written only where it changes: what was built with it is built anew when its time does.
fn write_wrapper(path: &Path) -> Result<()> {
    const TEXT: &str = "#!/bin/sh\nexec \"$@\" --cfg changestream_crash\n";
    if fs::read_to_string(path).is_ok_and(|there| there == TEXT) {
        return Ok(());
    }
    fs::write(path, TEXT)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
