//! OpenSSL 1.1 out of Debian 11, by the machine's own apt and its own mirror; nothing is installed system-wide.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::cache::{Reason, run};

const SOURCES: &str = "/etc/apt/sources.list";
const SOURCE_PARTS: &str = "/etc/apt/sources.list.d";
const LIBRARIES: &str = "unpacked/usr/lib/x86_64-linux-gnu";

/// Downloads and unpacks `libssl1.1` below `dir`; gives the folder that holds the libraries.
pub(crate) fn download_openssl(dir: &Path) -> Result<PathBuf, Reason> {
    let failed = |e: std::io::Error| format!("cannot prepare apt in {}: {e}", dir.display());
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
    let list = dir.join("sources.list");
    fs::write(&list, sources.join("\n") + "\n").map_err(failed)?;
    for folder in ["lists/partial", "cache/archives/partial", "unpacked"] {
        fs::create_dir_all(dir.join(folder)).map_err(failed)?;
    }

    run(apt(dir, &list).arg("update"))?;
    run(apt(dir, &list).args(["download", "libssl1.1"]))?;
    let package = fs::read_dir(dir)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .ok_or("apt downloaded no libssl1.1")?;
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(package)
        .arg(dir.join("unpacked")))?;
    Ok(dir.join(LIBRARIES))
}

/// `apt-get` with all its state below `dir`. Debian 11 gets no new release files any more, so their age is no fault.
fn apt(dir: &Path, list: &Path) -> Command {
    let option = |name: &str, value: &Path| {
        let mut option = OsString::from(format!("-o{name}="));
        option.push(value);
        option
    };
    let mut command = Command::new("apt-get");
    command
        .current_dir(dir)
        .args(["-qq", "-oAPT::Sandbox::User=root"])
        .args(["-oAcquire::Check-Valid-Until=false", "-oAcquire::Retries=1"])
        .args(["-oAcquire::http::Timeout=20", "-oAcquire::Languages=none"])
        .arg("-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false")
        .arg(option("Dir::Etc::sourcelist", list))
        .arg("-oDir::Etc::sourceparts=/dev/null")
        .arg(option("Dir::State::Lists", &dir.join("lists")))
        .arg(option("Dir::Cache", &dir.join("cache")));
    command
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
