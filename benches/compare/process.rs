//! Each contestant has a process of its own, so that none has the memory or the threads of another.

use std::{
    env,
    process::{Command, Stdio},
};

use crate::{
    Figures, Result,
    comparison::{Contestant, How, Task},
};

pub(crate) fn run(contestant: &Contestant, task: &Task) -> Result<Figures> {
    let task = serde_json::to_string(task)?;
    let mut command = match &contestant.how {
        How::Here(_) => {
            let mut command = Command::new(env::current_exe()?);
            command.arg("--task");
            command
        }
        How::Program(command) => command(),
    };
    let output = command.arg(task).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("`{}` failed", contestant.label).into());
    }
    let printed = String::from_utf8(output.stdout)?;
    let figures = printed.lines().last().unwrap_or_default();
    let figures = serde_json::from_str(figures);
    Ok(figures.map_err(|error| format!("`{}` printed no figures: {error}", contestant.label))?)
}
