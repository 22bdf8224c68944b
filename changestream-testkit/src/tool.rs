//! The programs of this machine that fetch servers.

use std::{io, process::Command};

/// Why something could not be had, in one line.
pub(crate) type Reason = String;

/// Runs a helper program; a failure is told by the last line it wrote.
pub(crate) fn run(command: &mut Command) -> Result<(), Reason> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program} cannot be started: {e}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let last = last.unwrap_or("it said nothing");
    if last.contains("No module named pip") {
        return Err("pip is not installed (Debian: apt-get install python3-pip)".to_owned());
    }
    Err(format!("{program} failed ({}): {last}", output.status))
}

/// Fetching takes seconds, and happens once for each cache: whoever waits for it is told.
pub(crate) fn say(text: &str) {
    eprintln!("changestream-testkit: {text}");
}
