use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use clap::Args;

use crate::command::{Outcome, Result, cargo};

/// Builds in which one rule is broken on purpose, by `cfg(changestream_mutant = "..")`. The oracle must catch each.
const MUTANTS: &[&str] = &[
    "commit_before_effect",
    "post_batch_in_flight",
    "random_lane",
    "unbounded",
];
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
    /// Checks the oracle instead: each build in which a rule is broken must be caught
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
    let status = simulation(None, options.seeds, options)?.status()?;
    Ok(match status.success() {
        true => Outcome::Success,
        false => Outcome::Failure(1),
    })
}

fn catch_mutants(options: &Options) -> Result {
    for mutant in MUTANTS {
        let output = simulation(Some(mutant), MUTANT_SEEDS, options)?.output()?;
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

/// The tests of the core with the `mutant`, if there is one, narrowed down to the simulation.
fn simulation(mutant: Option<&str>, seeds: u64, options: &Options) -> Result<Command> {
    let mut command = Command::new(build(mutant, options.release)?);
    command
        .args([
            "simulation::simulation_of_many_seeds",
            "--exact",
            "--nocapture",
        ])
        .env("CHANGESTREAM_SIMULATE_FROM", options.from.to_string())
        .env("CHANGESTREAM_SIMULATE_SEEDS", seeds.to_string());
    Ok(command)
}

/// Builds the tests of the core; the program. The flag is for them alone: `RUSTFLAGS` would build all dependencies anew.
fn build(mutant: Option<&str>, release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args([
        "rustc",
        "--quiet",
        "--package",
        "changestream-core",
        "--lib",
    ]);
    command.args(["--profile", if release { "bench" } else { "test" }]);
    command.args([
        "--features",
        "testing",
        "--message-format",
        "json-render-diagnostics",
    ]);
    if let Some(mutant) = mutant {
        command
            .arg("--")
            .arg(format!("--cfg=changestream_mutant=\"{mutant}\""));
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut parts = said.split("\"executable\":\"").skip(1);
    let program = parts.next().and_then(|rest| rest.split('"').next());
    let program = program.filter(|_| output.status.success());
    Ok(program.ok_or("the simulation cannot be built")?.into())
}
