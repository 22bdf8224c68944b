//! The tests of the Kafka sink over TLS: a workspace of its own, whose librdkafka is built with OpenSSL.

use crate::command::{Result, cargo, first_line, run, target_dir};

const MANIFEST: &str = "changestream-sinks/tests/kafka-tls/Cargo.toml";

/// What `pkg-config` tells the version of the system's OpenSSL by, where that can be linked to.
pub(crate) const OPENSSL_VERSION: &[&str] = &["--modversion", "openssl"];

pub(crate) fn test() -> Result {
    let mut command = cargo();
    command.args(["test", "--locked", "--manifest-path", MANIFEST]);
    // What both workspaces build alike is built once.
    command.arg("--target-dir").arg(target_dir()?);
    if first_line("pkg-config", OPENSSL_VERSION).is_none() {
        eprintln!(
            "OpenSSL is not there to link to (Debian: libssl-dev, pkg-config): it is compiled, which takes minutes"
        );
        command.args(["--features", "vendored"]);
    }
    run(&mut command)
}
