use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use changestream_testkit::cache_dir;
use clap::Args;

use crate::command::{Outcome, Result, cargo, first_line, run, target_dir};

/// The targets, the words that each is made of, and how many inputs a short run feeds it.
const TARGETS: &[(&str, &str, u64)] = &[
    ("event", "bson", 20_000),
    ("checkpoint", "bson", 50_000),
    ("filter", "bson", 10_000),
    ("annotation", "annotation", 5_000),
];
const VERSION: &str = "0.13.2";
/// An input that takes longer, in seconds, is a finding.
const INPUT_WITHIN: u32 = 10;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For how many seconds each target is fed; else it gets a number of inputs, drawn from one seed, that is always the same
    #[arg(long)]
    seconds: Option<u64>,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// Keeps what it learns in this folder, one below it for each target, and begins with what is there
    #[arg(long)]
    keep: Option<PathBuf>,
}

pub(crate) fn fuzz(options: &Options) -> Result {
    let is_wanted = |name: &str| options.target.as_deref().is_none_or(|only| only == name);
    let targets: Vec<_> = TARGETS
        .iter()
        .filter(|(name, ..)| is_wanted(name))
        .collect();
    if targets.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|(name, ..)| *name).collect();
        return Err(format!("there is no such target; there are {}", names.join(", ")).into());
    }
    let fuzzer = Fuzzer::find_or_install()?;
    if run(&mut fuzzer.command("build"))? != Outcome::Success {
        return Err("the fuzz targets cannot be built".into());
    }
    for (name, dictionary, inputs) in targets {
        let begin = Instant::now();
        let mut command = fuzzer.command("run");
        let learned = options.keep.clone();
        let learned = learned.unwrap_or_else(|| fuzzer.target_dir.join("corpus"));
        let learned = learned.join(name);
        if options.keep.is_none() {
            fs::remove_dir_all(&learned).ok();
        }
        fs::create_dir_all(&learned)?;
        // What it learns goes into the first folder.
        command
            .arg(name)
            .args([&learned, &Path::new("fuzz/corpus").join(name)]);
        command.args(["--", "-verbosity=0", "-print_funcs=0"]);
        command.arg(format!("-dict=fuzz/dict/{dictionary}.dict"));
        command.arg(format!("-timeout={INPUT_WITHIN}"));
        match options.seconds {
            Some(seconds) => command.arg(format!("-max_total_time={seconds}")),
            None => command.arg("-seed=1").arg(format!("-runs={inputs}")),
        };
        let outcome = run(&mut command)?;
        if outcome != Outcome::Success {
            return Ok(outcome);
        }
        eprintln!(
            "{name}: nothing found in {:.0} s",
            begin.elapsed().as_secs_f64()
        );
    }
    Ok(Outcome::Success)
}

/// `cargo fuzz`.
struct Fuzzer {
    program: PathBuf,
    target_dir: PathBuf,
}

impl Fuzzer {
    /// The pinned version, beside the other tools in the cache.
    fn find_or_install() -> Result<Self> {
        let tools = cache_dir()?.join("tools");
        let program = tools.join("bin/cargo-fuzz");
        let found = first_line(&program.to_string_lossy(), &["--version"]);
        if found.is_none_or(|found| found != format!("cargo-fuzz {VERSION}")) {
            eprintln!("installing cargo-fuzz {VERSION}, which takes a minute");
            let mut install = cargo();
            install.args(["install", "cargo-fuzz", "--locked", "--quiet"]);
            install.args(["--version", VERSION, "--root"]).arg(&tools);
            if run(&mut install)? != Outcome::Success {
                return Err("cargo-fuzz cannot be installed".into());
            }
        }
        Ok(Self {
            program,
            target_dir: target_dir()?.join("fuzz"),
        })
    }

    /// Without a sanitizer: there is no unsafe code for one to look at, and the stable compiler has none.
    fn command(&self, task: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["fuzz", task, "--fuzz-dir", "fuzz"]);
        command.args(["--sanitizer", "none"]);
        command.arg("--target-dir").arg(&self.target_dir);
        command
    }
}
