//! A process of the service.

use std::{
    env,
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        signal::{self, Signal},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::sleep,
};

use crate::{
    Result,
    plan::{Death, Manner},
    service,
};

const POLL: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// It ends when this is closed: with the process that holds it, however that ends.
    _lifeline: Option<ChildStdin>,
    /// Where it says that it listens for signals, until it has.
    listening: Option<ChildStdout>,
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
    /// Starts the service, to die at the `point` passed for the `n`th time, or to stop there, if there is one.
    pub(super) fn start(
        options: &service::Options,
        death: Option<&Death>,
        errors: &Path,
    ) -> Result<Self> {
        let errors = File::options().create(true).append(true).open(errors)?;
        let mut command = Command::new(env::current_exe()?);
        command.arg("service").args(options.to_args());
        if let Some(Death {
            point: Some((name, times)),
            manner,
            ..
        }) = death
        {
            let variable = match manner {
                Manner::Pause => service::STOP_POINT,
                Manner::Kill | Manner::Ask => service::CRASH_POINT,
            };
            command.env(variable, format!("{name}:{times}"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(errors).kill_on_drop(true).spawn()?;
        // Waiting for the child would close it.
        let _lifeline = child.stdin.take();
        let listening = child.stdout.take();
        Ok(Self {
            child,
            _lifeline,
            listening,
        })
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

    /// Asks it to stop, as soon as it can be asked.
    pub(super) async fn ask_to_stop(&mut self) -> Result<()> {
        if let Some(mut listening) = self.listening.take() {
            // Nothing comes where it has ended.
            listening.read_u8().await.ok();
        }
        self.signal(Signal::SIGTERM)
    }

    /// Sends it `signal`, as `kill` does.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(id) = self.child.id() {
            // It may have ended in this moment.
            signal::kill(Pid::from_raw(id.try_into()?), signal).ok();
        }
        Ok(())
    }
}

/// Waits until the process of this `id` has stopped by itself, as at its point.
pub(super) async fn stopped(id: Option<u32>) -> Result<()> {
    let Some(id) = id else {
        return std::future::pending().await;
    };
    let id = Pid::from_raw(id.try_into()?);
    // It is left to be waited for, by this and by who waits for its end.
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while !matches!(waitid(Id::Pid(id), flags), Ok(WaitStatus::Stopped(..))) {
        sleep(POLL).await;
    }
    Ok(())
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
