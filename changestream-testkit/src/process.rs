//! One child process that does not outlive this one.

use std::{
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
};

use crate::Program;

/// A running server, killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program, its output appended to the file `log`.
    pub(crate) fn spawn(program: &Program, args: &[String], log: &Path) -> io::Result<Self> {
        let mut command = program.command_with(command(program.path()));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)?;
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Self {
            child: spawn_from_lasting_thread(command)?,
        })
    }

    /// How it ended, if it has ended.
    pub(crate) fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(target_os = "linux")]
fn command(program: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let Some(setpriv) = &*SETPRIV else {
        return Command::new(program);
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    // Ctrl-C is for this process, which may still need the server while it shuts down.
    command.process_group(0);
    command
}

#[cfg(not(target_os = "linux"))]
fn command(program: &Path) -> Command {
    Command::new(program)
}

/// The program of util-linux that lets a child die with its parent, if it is there.
#[cfg(target_os = "linux")]
static SETPRIV: LazyLock<Option<std::path::PathBuf>> = LazyLock::new(|| {
    let supports = |path: &std::path::PathBuf| {
        let mut probe = Command::new(path);
        probe.args(["--pdeathsig", "KILL", "--", "true"]);
        probe
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("setpriv"))
        .find(supports)
});

/// The parent whose death kills a child is the *thread* that started it, so it must be one that lasts as long as the process.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static ORDERS: LazyLock<io::Result<mpsc::SyncSender<Order>>> = LazyLock::new(|| {
        let (sender, orders) = mpsc::sync_channel::<Order>(1);
        let serve = move || {
            for (mut command, answer) in orders {
                // Whoever ordered it waits for it.
                let _ = answer.send(command.spawn());
            }
        };
        thread::Builder::new()
            .name("testkit-spawner".to_owned())
            .spawn(serve)?;
        Ok(sender)
    });

    let ended = |_| io::Error::other("the thread that starts servers has ended");
    let orders = ORDERS.as_ref().map_err(|e| io::Error::from(e.kind()))?;
    let (answer, answered) = mpsc::sync_channel(1);
    orders.send((command, answer)).map_err(|_| ended(()))?;
    answered.recv().map_err(|_| ended(()))?
}
