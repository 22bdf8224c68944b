//! Where the figures come from.

use std::{fs, path::Path, process::Command, thread};

use bson::doc;
use mongodb::Client;
use serde::Serialize;

use crate::Result;

#[derive(Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let field = |file: &str, field: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(field));
            let value = line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
            value.unwrap_or_default()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let kibibytes = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kibibytes / 1024,
            kernel: kernel.trim().to_owned(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Versions {
    mongod: String,
    rustc: String,
    changestream: &'static str,
    driver: String,
}

impl Versions {
    pub(crate) async fn of(client: &Client) -> Result<Self> {
        let admin = client.database("admin");
        let info = admin.run_command(doc! { "buildInfo": 1 }).await?;
        let rustc = Command::new("rustc").arg("--version").output()?;
        Ok(Self {
            mongod: info.get_str("version")?.to_owned(),
            rustc: String::from_utf8_lossy(&rustc.stdout).trim().to_owned(),
            changestream: env!("CARGO_PKG_VERSION"),
            driver: locked("mongodb").unwrap_or_default(),
        })
    }
}

/// The version of a dependency that this was built with.
fn locked(name: &str) -> Option<String> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).ok()?;
    let (_, package) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(package.split_once('"')?.0.to_owned())
}
