//! Hosts whose clock is wrong.

use std::{process::Command, time::SystemTime};

use tempfile::TempDir;

/// A library that makes the clock of the day wrong for a process that preloads it; removed on drop.
pub(crate) struct WrongClock(TempDir);

impl WrongClock {
    pub(crate) fn build() -> Self {
        let dir = TempDir::new().expect("a folder");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"])
            .arg(dir.path().join("clock.so"))
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/support/clock.c"
            ));
        assert!(cc.status().expect("a C compiler").success());
        let clock = Self(dir);
        clock.assert_wrong_by(3_600);
        clock
    }

    /// The environment of a process whose clock is to be wrong by so many seconds.
    pub(crate) fn wrong_by(&self, seconds: i64) -> [(&'static str, String); 2] {
        let library = self.0.path().join("clock.so");
        let library = library.to_str().expect("a path").to_owned();
        [
            ("LD_PRELOAD", library),
            ("CLOCK_IS_WRONG_BY", seconds.to_string()),
        ]
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
