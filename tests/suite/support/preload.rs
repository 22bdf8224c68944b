//! Libraries that give a process another host than it has: one whose clock is wrong, or that finds no names.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use tempfile::TempDir;

/// A library for a process to preload; removed on drop.
struct Library(TempDir);

impl Library {
    /// Compiles a file of this folder.
    fn build(source: &str) -> Self {
        let dir = TempDir::new().expect("a folder");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]);
        cc.arg(dir.path().join("library.so"))
            .arg(sources.join(source));
        assert!(cc.status().expect("a C compiler").success());
        Self(dir)
    }

    fn environment(&self) -> (&'static str, String) {
        let library = self.0.path().join("library.so");
        ("LD_PRELOAD", library.to_str().expect("a path").to_owned())
    }
}

/// A clock of the day that is wrong.
pub(crate) struct WrongClock(Library);

impl WrongClock {
    pub(crate) fn build() -> Self {
        let clock = Self(Library::build("clock.c"));
        clock.assert_wrong_by(3_600);
        clock
    }

    /// The environment of a process whose clock is to be wrong by so many seconds.
    pub(crate) fn wrong_by(&self, seconds: i64) -> [(&'static str, String); 2] {
        let wrong_by = ("CLOCK_IS_WRONG_BY", seconds.to_string());
        [self.0.environment(), wrong_by]
    }

    fn assert_wrong_by(&self, seconds: i64) {
        let mut date = Command::new("date");
        date.arg("+%s").envs(self.wrong_by(seconds));
        let shown = String::from_utf8(date.output().expect("a date").stdout).expect("a number");
        let shown: i64 = shown.trim().parse().expect("a number");
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_secs();
        let wrong_by = shown - now.cast_signed();
        assert!((seconds - 60..=seconds).contains(&wrong_by), "{wrong_by}");
    }
}

/// Names that are lost and found again.
pub(crate) struct Names {
    library: Library,
    lost: PathBuf,
}

impl Names {
    pub(crate) fn build() -> Self {
        let library = Library::build("names.c");
        let lost = library.0.path().join("lost");
        Self { library, lost }
    }

    /// The environment of a process that loses and finds them.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let lost = self.lost.to_str().expect("a path").to_owned();
        [self.library.environment(), ("NAMES_ARE_LOST_WHILE", lost)]
    }

    pub(crate) fn lose(&self) {
        fs::write(&self.lost, "").expect("written");
    }

    /// How often one was looked for in vain.
    pub(crate) fn missed(&self) -> u64 {
        fs::metadata(&self.lost).expect("they are lost").len()
    }

    pub(crate) fn find(&self) {
        fs::remove_file(&self.lost).expect("removed");
    }
}
