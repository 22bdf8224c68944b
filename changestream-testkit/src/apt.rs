//! Debian packages by the machine's own apt; nothing is installed system-wide.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tool::{Reason, run};

/// Downloads packages, and those that they need and the system lacks, and unpacks all below `dir`; gives the root folder.
///
/// They come from `sources`, in the format of `sources.list`, else from where the system's own packages come from.
pub(crate) fn unpack(
    packages: &[&str],
    sources: Option<&str>,
    dir: &Path,
) -> Result<PathBuf, Reason> {
    let failed = |e: io::Error| format!("cannot prepare apt in {}: {e}", dir.display());
    let (cache, root) = (dir.join("cache"), dir.join("unpacked"));
    let archives = cache.join("archives");
    for folder in [&dir.join("lists/partial"), &archives.join("partial"), &root] {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let list = dir.join("sources.list");
    if let Some(sources) = sources {
        fs::write(&list, sources).map_err(failed)?;
    }
    let apt_get = || {
        let mut command = apt_get(dir, &cache);
        if sources.is_some() {
            command.arg(option("Dir::Etc::sourcelist", &list));
            command.arg("-oDir::Etc::sourceparts=/dev/null");
        }
        command
    };

    run(apt_get().arg("update"))?;
    run(apt_get()
        .args(["install", "--download-only", "--no-install-recommends"])
        .args(["--reinstall", "--yes"])
        .args(packages))?;
    let downloaded = fs::read_dir(&archives).map_err(failed)?;
    let downloaded = downloaded.filter_map(|entry| Some(entry.ok()?.path()));
    for package in downloaded.filter(|path| path.extension().is_some_and(|e| e == "deb")) {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(&root))?;
    }
    Ok(root)
}

/// The folder of the libraries below the root folder of packages.
pub(crate) fn libraries(root: &Path) -> PathBuf {
    root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))
}

/// `apt-get` with all that it writes below `dir`, and so without the lock on the system's own packages.
fn apt_get(dir: &Path, cache: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args([
            "-qq",
            "-oAPT::Sandbox::User=root",
            "-oDebug::NoLocking=true",
        ])
        .args(["-oAcquire::Check-Valid-Until=false", "-oAcquire::Retries=1"])
        .args(["-oAcquire::http::Timeout=20", "-oAcquire::Languages=none"])
        .arg("-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false")
        .arg(option("Dir::State::Lists", &dir.join("lists")))
        .arg(option("Dir::Cache", cache));
    command
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(format!("-o{name}="));
    option.push(value);
    option
}
