use std::{
    collections::VecDeque,
    fs,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::Progress;
use crate::Result;

const EVERY: Duration = Duration::from_millis(250);

/// What was seen of a service from outside.
#[derive(Debug, Default)]
pub(super) struct Measures {
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Duration,
    /// Resident, in KiB.
    pub(super) memory: u64,
    /// For how long the service has not been done with what the server had acknowledged.
    pub(super) lag: Duration,
    /// How many events those are.
    pub(super) behind: u64,
    pub(super) done: u64,
}

/// Measures the process `id`, which is to be done with what is `acknowledged`, while `load` goes on.
pub(super) async fn measure<T>(
    id: u32,
    acknowledged: &AtomicU64,
    progress: watch::Receiver<Progress>,
    load: impl Future<Output = Result<T>>,
) -> Result<(T, Measures)> {
    let mut load = pin!(load);
    let begin = Instant::now();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut measures = Measures::default();
    // What the server had acknowledged at which time, as far as the service is not done with it.
    let mut open = VecDeque::new();
    loop {
        tokio::select! {
            loaded = &mut load => return Ok((loaded?, measures)),
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        let (written, done) = (acknowledged.load(Ordering::SeqCst), progress.borrow().done);
        open.push_back((now, written));
        while open.front().is_some_and(|(_, written)| *written <= done) {
            open.pop_front();
        }
        measures.samples.push(Sample {
            at: now - begin,
            memory: resident(id)?,
            lag: open
                .front()
                .map_or(Duration::ZERO, |(since, _)| now - *since),
            behind: written.saturating_sub(done),
            done,
        });
    }
}

/// The resident memory of a process, in KiB (`proc_pid_status(5)`).
fn resident(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .ok_or("Linux tells the memory of a process, others do not")?
        .parse()?)
}

impl Measures {
    pub(super) fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Sample> {
        let samples = self.samples.iter();
        samples.filter(move |sample| (from..to).contains(&sample.at))
    }

    /// The median of the memory between two times, in MiB.
    pub(super) fn memory(&self, from: Duration, to: Duration) -> f64 {
        let mut memory: Vec<_> = self.between(from, to).map(|sample| sample.memory).collect();
        memory.sort_unstable();
        memory.get(memory.len() / 2).map_or(0.0, |kib| mib(*kib))
    }

    /// The most memory of all, in MiB.
    pub(super) fn peak(&self) -> f64 {
        let memory = self.samples.iter().map(|sample| sample.memory);
        mib(memory.max().unwrap_or_default())
    }

    /// The longest lag, in seconds, and the most events that were behind.
    pub(super) fn lag(&self) -> (f64, u64) {
        let lag = self.samples.iter().map(|sample| sample.lag).max();
        let behind = self.samples.iter().map(|sample| sample.behind).max();
        (
            lag.unwrap_or_default().as_secs_f64(),
            behind.unwrap_or_default(),
        )
    }

    pub(super) fn took(&self) -> Duration {
        self.samples
            .last()
            .map_or(Duration::ZERO, |sample| sample.at)
    }
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
