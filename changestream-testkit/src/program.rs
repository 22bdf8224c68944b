use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Version, tool::Reason};

const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// The program of a server, on this machine.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    libraries: Option<PathBuf>,
    environment: Vec<(&'static str, String)>,
    version: Version,
}

impl Program {
    pub(crate) const fn new(path: PathBuf, libraries: Option<PathBuf>, version: Version) -> Self {
        Self {
            path,
            libraries,
            environment: Vec::new(),
            version,
        }
    }

    pub(crate) fn with_environment(mut self, environment: Vec<(&'static str, String)>) -> Self {
        self.environment = environment;
        self
    }

    /// The program of this name on the `PATH`, of whatever version.
    pub(crate) fn on_path(name: &str) -> Option<Self> {
        env::split_paths(&env::var_os("PATH")?)
            .map(|dir| dir.join(format!("{name}{}", env::consts::EXE_SUFFIX)))
            .filter(|path| path.is_file())
            .find_map(|path| Self::try_run(path, None).ok())
    }

    /// Lets it tell its version.
    pub(crate) fn try_run(path: PathBuf, libraries: Option<PathBuf>) -> Result<Self, Reason> {
        let mut program = Self::new(path, libraries, Version::new(0, 0, 0));
        let output = program
            .command_with(Command::new(&program.path))
            .arg("--version")
            .output()
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        program.version = Version::find_in(&said).ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            complaint.lines().last().unwrap_or("no output").to_owned()
        })?;
        Ok(program)
    }

    /// Gives a command that runs it the environment that it needs beyond that of this process.
    pub(crate) fn command_with(&self, mut command: Command) -> Command {
        command.envs(self.libraries().map(|dir| (LIBRARY_PATH, dir)));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the libraries that it alone is given, where the system lacks them.
    pub fn libraries(&self) -> Option<&Path> {
        self.libraries.as_deref()
    }

    /// Its version.
    pub const fn version(&self) -> Version {
        self.version
    }
}
