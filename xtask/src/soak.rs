use std::{env, path::PathBuf, process::Command};

use changestream_testkit::Mongod;
use clap::Args;

use crate::{
    command::{Result, run},
    crash::build,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For how long
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Of what is written, and of the faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many events there are in a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Writes a dated report to this file
    #[arg(long)]
    report: Option<PathBuf>,
    /// Builds with optimization
    #[arg(long)]
    release: bool,
}

pub(crate) fn soak(options: &Options) -> Result {
    Mongod::find_or_fetch(None)?;
    let mut command = Command::new(build(options.release)?);
    command
        .arg("soak")
        .args(["--minutes", &options.minutes.to_string()])
        .args(["--seed", &options.seed.to_string()])
        .args(["--rate", &options.rate.to_string()]);
    if let Some(report) = &options.report {
        command.arg("--report").arg(report);
    }
    let words = env::args().skip(1).collect::<Vec<_>>().join(" ");
    run(command.args(["--command", &format!("cargo xtask {words}")]))
}
