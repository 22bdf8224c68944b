//! Each contestant has a process of its own, so that none has the memory or the threads of another.

use std::{
    env,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{process, time::timeout};

use crate::{
    Figures, Result,
    comparison::{Contestant, How, Task},
    measure::Measure,
};

/// More than any takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Of another program, these figures are asked.
pub(crate) async fn run(
    contestant: &Contestant,
    task: &Task,
    columns: &[Measure],
) -> Result<Figures> {
    let label = &contestant.label;
    let task = serde_json::to_string(task)?;
    let mut command = match &contestant.how {
        How::Here(_) => {
            let mut command = Command::new(env::current_exe()?);
            command.arg("--task");
            command
        }
        How::Program(command) => command(),
    };
    command.arg(task).stderr(Stdio::inherit());
    if contestant.has_one_worker {
        command.env("TOKIO_WORKER_THREADS", "1");
    }
    let mut command = process::Command::from(command);
    let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let output = output.map_err(|_elapsed| format!("`{label}` did not end"))??;
    if !output.status.success() {
        return Err(format!("`{label}` failed").into());
    }
    let printed = String::from_utf8(output.stdout)?;
    let figures = printed.lines().last().unwrap_or_default();
    let figures = serde_json::from_str::<Figures>(figures);
    let figures = figures.map_err(|error| format!("`{label}` printed no figures: {error}"))?;
    let missing = columns.iter().find(|column| !figures.contains_key(column));
    match (&contestant.how, missing) {
        (How::Program(_), Some(missing)) => {
            Err(format!("`{label}` printed no {}", missing.title()).into())
        }
        _ => Ok(figures),
    }
}
