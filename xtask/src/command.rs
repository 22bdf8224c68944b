//! Running other programs.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a task returns.
pub(crate) type Result<T = Outcome> = std::result::Result<T, Box<dyn Error>>;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// With the exit code of the program.
    Failure(u8),
}

/// The cargo that runs this, as if it had been started by hand.
///
/// What it told this program about its package would otherwise reach the build scripts of dependencies: ring's looks at
/// it, and with every turn from one way of starting to the other, all that depends on ring would be built anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let is_of_package =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(is_of_package) {
            command.env_remove(&name);
        }
    }
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(env::current_dir()?.join(target))
}

/// Shows a command, and runs it to its end.
pub(crate) fn run(command: &mut Command) -> Result {
    let words: Vec<_> = command.get_args().map(|w| w.to_string_lossy()).collect();
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    eprintln!("$ {name} {}", words.join(" "));
    let status = command
        .status()
        .map_err(|e| format!("{name} cannot be started: {e}"))?;
    Ok(match status.code() {
        Some(0) => Outcome::Success,
        code => Outcome::Failure(code.and_then(|c| c.try_into().ok()).unwrap_or(1)),
    })
}

/// The first line that a program prints, if it is there and content.
pub(crate) fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().next().unwrap_or_default().to_owned();
    output.status.success().then_some(line)
}

/// The value of `MONGODB_URI`, if it is set.
pub(crate) fn mongodb_uri() -> Option<String> {
    env::var("MONGODB_URI").ok().filter(|uri| !uri.is_empty())
}
