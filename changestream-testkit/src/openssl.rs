//! OpenSSL 1.1, which most servers were built for and newer systems lack: out of Debian 11, from the machine's own mirror.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Result, ServerVersion, apt, cache::cache_dir, tool::Reason};

const SOURCES: &str = "/etc/apt/sources.list";
const SOURCE_PARTS: &str = "/etc/apt/sources.list.d";

pub(crate) fn is_needed(version: ServerVersion) -> bool {
    version != ServerVersion::V6_0_5
}

/// Where the libraries are, once they are complete.
pub(crate) fn libraries() -> Result<PathBuf> {
    Ok(cache_dir()?.join("openssl-1.1"))
}

/// Exists when they could not be had, and says why: the fallback is then taken without trying again.
pub(crate) fn missing() -> Result<PathBuf> {
    Ok(cache_dir()?.join("openssl-1.1.missing"))
}

/// Downloads and unpacks them below `dir`; gives their folder.
pub(crate) fn download(dir: &Path) -> Result<PathBuf, Reason> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or_default()
        .trim_matches('"');
    let sources = bullseye_sources(&machine_sources(), codename);
    if sources.is_empty() {
        return Err("apt knows no Debian mirror to fetch it from".into());
    }
    let root = apt::unpack(&["libssl1.1"], Some(&(sources.join("\n") + "\n")), dir)?;
    Ok(apt::libraries(&root))
}

fn machine_sources() -> String {
    let parts = fs::read_dir(SOURCE_PARTS).into_iter().flatten();
    parts
        .filter_map(|entry| Some(entry.ok()?.path()))
        .chain([PathBuf::from(SOURCES)])
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The machine's own Debian sources with the release swapped for Debian 11, signatures still checked.
///
/// `sources` may mix both of apt's formats: lines that start with `deb`, and stanzas of fields.
fn bullseye_sources(sources: &str, codename: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in sources.lines() {
        let Some(rest) = line.strip_prefix("deb ") else {
            continue;
        };
        let (options, rest) = match rest.trim_start().strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').unwrap_or((bracketed, "")),
            None => ("", rest),
        };
        let keyring = options
            .split_whitespace()
            .find_map(|o| o.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            found.extend(swap(uri, suite, codename, keyring));
        }
    }
    for stanza in sources.split("\n\n") {
        let field = |name: &str| {
            let value = stanza.lines().find_map(|line| line.strip_prefix(name));
            value.map(str::trim).unwrap_or_default()
        };
        let keyring = Some(field("Signed-By:")).filter(|k| k.starts_with('/'));
        for uri in field("URIs:").split_whitespace() {
            for suite in field("Suites:").split_whitespace() {
                found.extend(swap(uri, suite, codename, keyring));
            }
        }
    }
    found
}

fn swap(uri: &str, suite: &str, codename: &str, keyring: Option<&str>) -> Option<String> {
    let suite = match suite.strip_prefix(codename)? {
        "" => "bullseye",
        "-security" => "bullseye-security",
        _ => return None,
    };
    let keyring = keyring.map_or_else(String::new, |k| format!("[signed-by={k}] "));
    Some(format!("deb {keyring}{uri} {suite} main"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_keep_mirror_and_keyring() {
        let sources = "Types: deb\n# a comment\nURIs: http://mirror.test/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/d.gpg\n\n\
            Types: deb\nURIs: http://mirror.test/debian-security\nSuites: bookworm-security\n\n\
            URIs: http://other.test\nSuites: nodistro\n";
        assert_eq!(
            bullseye_sources(sources, "bookworm"),
            [
                "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.test/debian bullseye main",
                "deb http://mirror.test/debian-security bullseye-security main",
            ]
        );
    }

    #[test]
    fn one_line_sources_keep_mirror_and_keyring() {
        let sources = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib\n\
            deb http://other.test/apt cloud-bookworm main\ndeb-src http://mirror.test/debian bookworm main\n\
            # deb http://off.test/debian bookworm main";
        assert_eq!(
            bullseye_sources(sources, "bookworm"),
            ["deb [signed-by=/k.gpg] http://mirror.test/debian bullseye main"]
        );
    }

    #[test]
    fn other_distributions_have_no_source() {
        let sources = "deb http://mirror.test/ubuntu jammy main";
        assert!(bullseye_sources(sources, "bookworm").is_empty());
    }
}
