//! One server on its port and data folder, through starts and kills.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::{Error, Program, Result, kind::Kind, port::free_port, process::Process, wait::Wait};

#[cfg(test)]
mod tests;

const START_TRIES: u32 = 5;
const LOG_LINES: usize = 15;

#[derive(Debug)]
pub(crate) struct Daemon {
    kind: &'static Kind,
    program: Program,
    args: Vec<String>,
    port: u16,
    process: Mutex<Option<Process>>,
    dir: TempDir,
}

impl Daemon {
    /// Starts a server on a free port and a folder of its own, for which `args` makes its arguments, and waits until it
    /// answers.
    pub(crate) async fn start(
        kind: &'static Kind,
        program: Program,
        args: impl Fn(u16, &Path) -> Result<Vec<String>>,
    ) -> Result<Self> {
        let mut tries = 1;
        loop {
            let dir = tempfile::Builder::new()
                .prefix(&format!("changestream-{}-", kind.program))
                .tempdir()
                .map_err(Error::io("make a folder for the server's data"))?;
            let port = free_port().map_err(Error::io("find a free port"))?;
            let daemon = Self {
                kind,
                program: program.clone(),
                args: args(port, dir.path())?,
                port,
                process: Mutex::new(None),
                dir,
            };
            match daemon.launch().await {
                Err(Error::Died { .. })
                    if daemon.log().contains(kind.port_taken) && tries < START_TRIES =>
                {
                    tries += 1;
                }
                launched => return launched.map(|()| daemon),
            }
        }
    }

    /// Starts the process again, on the same port and data, and waits until it answers.
    pub(crate) async fn launch(&self) -> Result<()> {
        self.kill().await?;
        let earlier = self.log().len();
        let process = Process::spawn(&self.program, &self.args, &self.log_file()).map_err(
            Error::io(format!("start {}", self.program.path().display())),
        )?;
        *self.process() = Some(process);

        let wait = self.waiting_for("start");
        loop {
            let log = self.log();
            let ready = self
                .kind
                .is_ready(self.addr(), log.get(earlier..).unwrap_or_default())
                .await;
            if wait.judge(Ok(ready.then_some(()))).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Kills the process, which gets no chance to tidy up, and waits until it is gone.
    pub(crate) async fn kill(&self) -> Result<()> {
        let process = self.process().take();
        blocking(move || {
            drop(process);
            Ok(())
        })
        .await
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process().is_some()
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) const fn program(&self) -> &Program {
        &self.program
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The arguments of the next launch.
    pub(crate) const fn args_mut(&mut self) -> &mut Vec<String> {
        &mut self.args
    }

    pub(crate) fn not_running(&self) -> Error {
        Error::NotRunning {
            program: self.kind.program,
            port: self.port,
        }
    }

    pub(crate) fn waiting_for(&self, what: &'static str) -> Wait<'_> {
        Wait::new(self, what)
    }

    pub(crate) fn timeout(&self, what: &'static str, after: Duration) -> Error {
        Error::Timeout {
            program: self.kind.program,
            what,
            after,
            log: self.log_tail(),
        }
    }

    /// Fails if the process has ended.
    pub(crate) fn check_alive(&self) -> Result<()> {
        let mut process = self.process();
        let running = process.as_mut().ok_or_else(|| self.not_running())?;
        let ended = running.exited().map_err(Error::io(format!(
            "ask after the state of {}",
            self.kind.program
        )))?;
        let Some(status) = ended else {
            return Ok(());
        };
        *process = None;
        Err(Error::Died {
            program: self.kind.program,
            port: self.port,
            status,
            log: self.log_tail(),
        })
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The data folder goes next, and the process must not write into it meanwhile.
        self.process().take();
    }
}

/// Waits for work that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => Err(Error::io("wait for a helper thread")(io::Error::other(
            failed,
        ))),
    }
}
