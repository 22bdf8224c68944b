//! What is measured, and the meter that does it: the process by the operating system, the server by both.

use std::{
    fs,
    time::{Duration, Instant},
};

use bson::{Document, doc};
use mongodb::Client;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde::{Deserialize, Serialize};

use crate::{Figures, Result};

/// What Linux counts in `/proc/PID/stat` in a second, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    EventsPerSecond,
    ClientCpu,
    ServerCpu,
    BytesReceived,
    PeakMemory,
    IdleMemory,
    MemoryOverIdle,
    LatencyP50,
    LatencyP99,
    FromWriteP50,
    FromWriteP99,
    FirstEvent,
    CompileTime,
    Allocations,
}

impl Measure {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::EventsPerSecond => "events/s",
            Self::ClientCpu => "client CPU us/event",
            Self::ServerCpu => "server CPU us/event",
            Self::BytesReceived => "bytes/event",
            Self::PeakMemory => "peak MiB",
            Self::IdleMemory => "idle MiB",
            Self::MemoryOverIdle => "peak over idle MiB",
            Self::LatencyP50 => "p50 us from ack",
            Self::LatencyP99 => "p99 us from ack",
            Self::FromWriteP50 => "p50 us from write",
            Self::FromWriteP99 => "p99 us from write",
            Self::FirstEvent => "first event ms",
            Self::CompileTime => "ms/handler",
            Self::Allocations => "allocations/event",
        }
    }

    /// What less counts as in a ratio: a latency may be nothing, and nothing is not to be divided by.
    pub(crate) fn least(self) -> f64 {
        match self {
            Self::LatencyP50 | Self::LatencyP99 => 1.0,
            _ => 0.0,
        }
    }

    pub(crate) fn decimals(self) -> usize {
        match self {
            Self::EventsPerSecond | Self::BytesReceived => 0,
            Self::ClientCpu | Self::ServerCpu | Self::FirstEvent | Self::Allocations => 2,
            _ => 1,
        }
    }
}

/// Measures from its start to its end.
pub(crate) struct Meter {
    server: Server,
    server_cpu: Option<f64>,
    bytes: i64,
    cpu: Duration,
    wall: Instant,
}

impl Meter {
    pub(crate) async fn start(client: &Client) -> Result<Self> {
        let (server, bytes) = Server::of(client).await?;
        Ok(Self {
            server_cpu: server.cpu_seconds(),
            server,
            bytes,
            cpu: cpu_time()?,
            wall: Instant::now(),
        })
    }

    pub(crate) async fn stop(self, events: u64) -> Result<Figures> {
        let wall = self.wall.elapsed().as_secs_f64();
        let cpu = (cpu_time()? - self.cpu).as_secs_f64();
        let server_cpu = self.server.cpu_seconds();
        let (_, bytes) = Server::of(&self.server.client).await?;
        let events = events as f64;
        let mut figures = Figures::from([
            (Measure::EventsPerSecond, events / wall),
            (Measure::ClientCpu, cpu * 1e6 / events),
            (Measure::BytesReceived, (bytes - self.bytes) as f64 / events),
            (Measure::PeakMemory, peak_memory()?),
        ]);
        if let (Some(before), Some(after)) = (self.server_cpu, server_cpu) {
            figures.insert(Measure::ServerCpu, (after - before) * 1e6 / events);
        }
        Ok(figures)
    }
}

struct Server {
    client: Client,
    /// Of the server's process, where that is on this machine.
    pid: Option<i64>,
}

impl Server {
    /// The server, and how many bytes it has sent so far.
    async fn of(client: &Client) -> Result<(Self, i64)> {
        let command = doc! {
            "serverStatus": 1, "metrics": 0, "wiredTiger": 0, "locks": 0, "repl": 0, "tcmalloc": 0,
            "transactions": 0, "opLatencies": 0, "security": 0, "flowControl": 0,
        };
        let status = client.database("admin").run_command(command).await?;
        let bytes = status.get_document("network")?.get_i64("bytesOut")?;
        let server = Self {
            client: client.clone(),
            pid: pid_here(&status),
        };
        Ok((server, bytes))
    }

    fn cpu_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid?)).ok()?;
        // The name before may hold anything, spaces too.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }
}

fn pid_here(status: &Document) -> Option<i64> {
    let host = status.get_str("host").ok()?.split(':').next()?;
    let here = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let pid = status.get_i64("pid").ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (host == here.trim() && name.starts_with("mongod")).then_some(pid)
}

/// What this process has used of the processors so far, in user and system mode.
fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// The most memory that this process has had resident, in MiB.
pub(crate) fn peak_memory() -> Result<f64> {
    memory("VmHWM:")
}

/// The memory that this process has resident, in MiB.
pub(crate) fn resident_memory() -> Result<f64> {
    memory("VmRSS:")
}

fn memory(field: &str) -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mut lines = status.lines();
    let text = lines.find_map(|line| line.strip_prefix(field));
    let text = text.ok_or("the kernel does not tell the memory of a process")?;
    let kibibytes = text.trim().trim_end_matches(" kB").parse::<f64>()?;
    Ok(kibibytes / 1024.0)
}
