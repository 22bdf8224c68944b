use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use changestream_testkit::Mongod;
use clap::Args;

use crate::command::{Outcome, Result, cargo, run};

/// Builds in which something is broken on purpose, by `cfg(changestream_mutant = "..")`, and the rule of the checker that
/// must catch each.
const MUTANTS: &[(&str, &str)] = &[
    ("commit_before_effect", "early-commit"),
    ("post_batch_in_flight", "early-commit"),
    ("random_lane", "order"),
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
    /// How many runs go on side by side
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Writes a dated report to this file
    #[arg(long)]
    report: Option<PathBuf>,
    /// Checks the checker instead: each build in which a rule is broken must be caught
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
    let mut command = Command::new(build(None, options.release)?);
    command.args(run_args(options.runs, options));
    if let Some(report) = &options.report {
        command.arg("--report").arg(report);
    }
    let words = env::args().skip(1).collect::<Vec<_>>().join(" ");
    run(command.args(["--command", &format!("cargo xtask {words}")]))
}

fn catch_mutants(options: &Options) -> Result {
    for (mutant, rule) in MUTANTS {
        if options.only.as_deref().is_some_and(|only| only != *mutant) {
            continue;
        }
        let mut command = Command::new(build(Some(mutant), options.release)?);
        command.args(run_args(MUTANT_RUNS, options));
        if run(command.args(["--expect", rule]))? != Outcome::Success {
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

/// Builds the service with its crash points, and the `mutant` if there is one; the program.
///
/// Only the workspace's own packages are built anew: a wrapper of the compiler, a file of its own for each variant, adds
/// the flags for them alone. `RUSTFLAGS` would build all dependencies again as well.
pub(crate) fn build(mutant: Option<&str>, release: bool) -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = env::current_dir()?.join(target);
    let variant = mutant.unwrap_or("as_is");
    let dir = target.join("crash").join(variant);
    fs::create_dir_all(&dir)?;

    let wrapper = dir.join("rustc");
    write_wrapper(&wrapper, mutant)?;
    let mut command = cargo();
    command.args(["build", "--quiet", "--package", CRASH]);
    if release {
        command.arg("--release");
    }
    command.env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    eprintln!("building {variant}");
    if run(&mut command)? != Outcome::Success {
        return Err(format!("{CRASH} cannot be built").into());
    }
    // The next variant is built to the same place.
    let built = target.join(if release { "release" } else { "debug" });
    let program = dir.join(CRASH);
    fs::copy(built.join(CRASH), &program)?;
    Ok(program)
}

/// Written only where it changes: what was built with it is built anew when its time does.
fn write_wrapper(path: &Path, mutant: Option<&str>) -> Result<()> {
    let mutant = mutant.map(|mutant| format!(" --cfg 'changestream_mutant=\"{mutant}\"'"));
    let text = format!(
        "#!/bin/sh\nexec \"$@\" --cfg changestream_crash{}\n",
        mutant.unwrap_or_default()
    );
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
