use std::{env, fmt, str::FromStr};

use crate::{Error, Result};

const VERSION_VARIABLE: &str = "CHANGESTREAM_MONGOD_VERSION";

/// A MongoDB version that can be fetched: the newest one is for every day, the others make the version matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum ServerVersion {
    /// 4.4.2, the oldest supported one: no pre-images, no split events.
    V4_4,
    /// 5.0.4: no pre-images, no split events.
    V5_0,
    /// 6.0.5, which needs no OpenSSL 1.1: pre-images, no split events.
    V6_0_5,
    /// 6.0.27: pre-images and `$changeStreamSplitLargeEvent`.
    #[default]
    V6_0,
}

impl ServerVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 4] = [Self::V4_4, Self::V5_0, Self::V6_0_5, Self::V6_0];

    /// The version that `CHANGESTREAM_MONGOD_VERSION` asks for, if it is set.
    pub fn from_env() -> Result<Option<Self>> {
        match env::var(VERSION_VARIABLE) {
            Ok(text) if !text.is_empty() => text.parse().map(Some),
            _ => Ok(None),
        }
    }

    /// The exact version number.
    pub const fn number(self) -> Version {
        match self {
            Self::V4_4 => Version::new(4, 4, 2),
            Self::V5_0 => Version::new(5, 0, 4),
            Self::V6_0_5 => Version::new(6, 0, 5),
            Self::V6_0 => Version::new(6, 0, 27),
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// Reads the full number (`6.0.27`) or the release series (`6.0`), which means the newest of that series.
impl FromStr for ServerVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let series = |v: &Self| format!("{}.{}", v.number().major, v.number().minor);
        Self::ALL
            .into_iter()
            .rev()
            .find(|v| v.to_string() == text || series(v) == text)
            .ok_or_else(|| Error::UnknownVersion(text.to_owned()))
    }
}

/// A version number as a server reports it, ordered, so that a test can ask for a feature's first version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

impl Version {
    /// The version `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Finds the version in what a server says: `db version v6.0.27`, `6.0.27-rc0`, `Redis server v=7.0.15 bits=64`.
    pub(crate) fn find_in(text: &str) -> Option<Self> {
        let read = |word: &str| {
            let word = word.trim_start_matches(['v', '=']);
            let mut numbers = word.split(['.', '-']).map(str::parse);
            Some(Self::new(
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
            ))
        };
        text.lines().next()?.split_whitespace().find_map(read)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_means_its_newest_version() {
        assert_eq!("6.0".parse::<ServerVersion>().unwrap(), ServerVersion::V6_0);
        assert_eq!("4.4".parse::<ServerVersion>().unwrap(), ServerVersion::V4_4);
    }

    #[test]
    fn every_version_reads_back_what_it_displays() {
        for version in ServerVersion::ALL {
            assert_eq!(
                version.to_string().parse::<ServerVersion>().unwrap(),
                version
            );
        }
    }

    #[test]
    fn an_unknown_version_is_named_in_the_error() {
        let error = "3.6".parse::<ServerVersion>().unwrap_err();
        assert!(error.to_string().contains("\"3.6\""), "{error}");
    }

    #[test]
    fn reads_what_servers_say() {
        let said = "db version v7.0.2\nBuild Info: {";
        assert_eq!(Version::find_in(said), Some(Version::new(7, 0, 2)));
        assert_eq!(Version::find_in("8.1.0-rc0"), Some(Version::new(8, 1, 0)));
        let said = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(Version::find_in(said), Some(Version::new(7, 0, 15)));
        assert_eq!(Version::find_in("mongod"), None);
    }
}
