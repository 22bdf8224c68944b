//! Packages of Python, for what is tested against another implementation.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    Error, Result,
    cache::{cache_dir, find_or_fetch, rename, workshop},
    tool::{Reason, run, say},
};

/// A folder of packages for the `PYTHONPATH` of the machine's own `python3`, fetched once into the cache by its pip, which
/// checks the hashes; blocks meanwhile.
///
/// `requirements` are lines of pip, each with a version and a hash, of packages without compiled parts and of all that they
/// need. `name` is that of the folder: other requirements have another one.
pub fn python_packages(name: &str, requirements: &str) -> Result<PathBuf> {
    let target = cache_dir()?.join(format!("python-{name}"));
    let find = || Ok(target.is_dir().then(|| target.clone()));
    find_or_fetch(find, || {
        say(&format!("fetching the Python packages {name}"));
        let workshop = workshop()?;
        let packages = workshop.path().join("packages");
        let list = workshop.path().join("requirements.txt");
        fs::write(&list, requirements).map_err(Error::io(format!("write {}", list.display())))?;
        let installed: Result<(), Reason> = run(Command::new("python3")
            .args(["-m", "pip", "install"])
            .args(["--quiet", "--no-input", "--no-deps", "--no-compile"])
            .args(["--disable-pip-version-check", "--only-binary=:all:"])
            .arg("--require-hashes")
            .arg("--requirement")
            .arg(&list)
            .arg("--target")
            .arg(&packages));
        installed.map_err(|reason| Error::NoPythonPackages {
            packages: name.to_owned(),
            reason,
        })?;
        rename(&packages, &target)?;
        Ok(target.clone())
    })
}
