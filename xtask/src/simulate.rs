use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;

use crate::command::{Outcome, Result, cargo};

/// Rules that can be broken on purpose, by the variable [`MUTANT`]. The oracle must catch each.
const MUTANTS: &[&str] = &[
    "commit_before_effect",
    "post_batch_in_flight",
    "random_lane",
    "unbounded",
];
pub(crate) const MUTANT: &str = "CHANGESTREAM_MUTANT";
/// Seeds that may pass before a mutant is caught.
const MUTANT_SEEDS: u64 = 100;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many seeds
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first seed; the others count up from it
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Checks the oracle instead: that each rule, when it is broken, is caught
    #[arg(long)]
    mutants: bool,
    /// Builds with optimization: worth it for many seeds
    #[arg(long)]
    release: bool,
}

pub(crate) fn simulate(options: &Options) -> Result {
    if options.mutants {
        return catch_mutants(options);
    }
    let mut command = simulation(&build(options.release)?, options.seeds, options);
    let status = command.status()?;
    Ok(match status.success() {
        true => Outcome::Success,
        false => Outcome::Failure(1),
    })
}

fn catch_mutants(options: &Options) -> Result {
    let program = build(options.release)?;
    for mutant in MUTANTS {
        let mut command = simulation(&program, MUTANT_SEEDS, options);
        let output = command.env(MUTANT, mutant).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let mut lines = said.lines();
        let Some(violation) = lines.find(|line| line.starts_with("seed ")) else {
            eprintln!("the mutant {mutant} was not caught with {MUTANT_SEEDS} seeds");
            return Ok(Outcome::Failure(1));
        };
        println!("{mutant}: caught, {violation}");
    }
    Ok(Outcome::Success)
}

/// The tests of the core, narrowed down to the simulation.
fn simulation(program: &Path, seeds: u64, options: &Options) -> Command {
    let mut command = Command::new(program);
    command
        .args([
            "simulation::simulation_of_many_seeds",
            "--exact",
            "--nocapture",
        ])
        .env("CHANGESTREAM_SIMULATE_FROM", options.from.to_string())
        .env("CHANGESTREAM_SIMULATE_SEEDS", seeds.to_string());
    command
}

/// Builds the tests of the core, as they are built to be run with all others; the program.
fn build(release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--quiet"]);
    command.args(["--workspace", "--all-features", "--lib"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let programs = said.split("\"executable\":\"").skip(1);
    let mut programs = programs.filter_map(|rest| rest.split('"').next());
    let program = programs.find(|program| program.contains("changestream_core-"));
    let program = program.filter(|_| output.status.success());
    Ok(program.ok_or("the simulation cannot be built")?.into())
}
