//! A process of the service.

use std::{
    env,
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::process::{Child, ChildStdin, Command};

use crate::{Result, service};

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// It ends when this is closed: with the process that holds it, however that ends.
    _lifeline: Option<ChildStdin>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As it was told to.
    Well,
    /// At the crash point that it was given.
    AtPoint,
    /// By itself, because of a fault.
    Hindered,
    /// In no way that it should.
    Badly(String),
}

impl Process {
    /// Starts the service, to die at the `point` passed for the `n`th time, if there is one.
    pub(super) fn start(
        options: &service::Options,
        point: Option<(&'static str, u64)>,
        errors: &Path,
    ) -> Result<Self> {
        let errors = File::options().create(true).append(true).open(errors)?;
        let mut command = Command::new(env::current_exe()?);
        command
            .arg("service")
            .args(["--uri", &options.uri])
            .args(["--database", &options.database])
            .arg("--log")
            .arg(&options.log)
            .args(["--session", &options.session.to_string()])
            .args(["--batch-size", &options.batch_size.to_string()])
            .args([
                "--checkpoint-events",
                &options.checkpoint_events.to_string(),
            ])
            .args([
                "--checkpoint-interval",
                &options.checkpoint_interval.to_string(),
            ])
            .args(["--lease", &options.lease.to_string()]);
        if let [seconds, increment] = options.start_at[..] {
            let [seconds, increment] = [seconds, increment].map(|number| number.to_string());
            command.args(["--start-at", &seconds, &increment]);
        }
        if let Some((name, times)) = point {
            command.env("CHANGESTREAM_CRASH_POINT", format!("{name}:{times}"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(errors).kill_on_drop(true).spawn()?;
        // Waiting for the child would close it.
        let _lifeline = child.stdin.take();
        Ok(Self { child, _lifeline })
    }

    /// Its process id; `None` once it has ended.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends.
    pub(super) async fn ended(&mut self, has_point: bool) -> Result<End> {
        Ok(End::of(self.child.wait().await?, has_point))
    }

    /// Kills it, as `kill -9` does.
    pub(super) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to stop, as `kill` does.
    pub(super) fn ask_to_stop(&self) -> Result<()> {
        if let Some(id) = self.child.id() {
            // It may have ended in this moment.
            signal::kill(Pid::from_raw(id.try_into()?), Signal::SIGTERM).ok();
        }
        Ok(())
    }
}

impl End {
    fn of(status: ExitStatus, has_point: bool) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Well,
            (Some(code), _) if code == i32::from(service::exit::HINDERED) => Self::Hindered,
            (_, Some(signal)) if has_point && signal == Signal::SIGABRT as i32 => Self::AtPoint,
            _ => Self::Badly(format!("the service ended with {status}")),
        }
    }
}
