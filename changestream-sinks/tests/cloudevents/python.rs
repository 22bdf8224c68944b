//! The second implementation: the Python SDK of CloudEvents.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use changestream_testkit::python_packages;
use serde::{Deserialize, Serialize};

/// 1.x neither decodes what is percent-encoded in headers nor checks attributes.
const PACKAGES: &str = "\
cloudevents==2.2.0 --hash=sha256:9ff8adff01b997d251d0fb54076557daa9906330e16afc1712a6447122f8f7a4
python-dateutil==2.9.0.post0 --hash=sha256:a8b2bc7bffae282281c8140a97d3aa9c14da0b136dfe83f850eea9a5f7470427
six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274
";

/// A request or record, as it came.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Wire {
    pub(crate) protocol: &'static str,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) key: Option<String>,
    /// In base64.
    pub(crate) body: String,
}

impl Wire {
    pub(crate) fn new(
        protocol: &'static str,
        headers: BTreeMap<String, String>,
        key: Option<&str>,
        body: &[u8],
    ) -> Self {
        Self {
            protocol,
            headers,
            key: key.map(str::to_owned),
            body: BASE64.encode(body),
        }
    }
}

/// An event, as the Python SDK sees it.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Seen {
    pub(crate) attributes: BTreeMap<String, String>,
    /// Bytes are an object whose one field is `base64`.
    pub(crate) data: serde_json::Value,
}

/// What the Python SDK makes of them.
pub(crate) fn receive(wires: &[Wire]) -> Vec<Seen> {
    let packages =
        python_packages("cloudevents-2.2.0", PACKAGES).unwrap_or_else(|error| panic!("{error}"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloudevents/receive.py");
    assert!(fs::exists(script).expect("readable"), "{script} is there");
    let mut python = Command::new("python3")
        .arg(script)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 reads the events, and has to be installed");
    let lines = wires
        .iter()
        .map(|wire| serde_json::to_string(wire).expect("JSON") + "\n");
    let mut stdin = python.stdin.take().expect("a pipe");
    // Where the script has failed, its own words are told below.
    stdin.write_all(lines.collect::<String>().as_bytes()).ok();
    drop(stdin);
    let output = python.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the Python SDK refuses it:\n{said}"
    );
    let seen = String::from_utf8(output.stdout).expect("UTF-8");
    seen.lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect()
}
