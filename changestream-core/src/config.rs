use std::time::Duration;

use crate::{
    layer::Policy,
    processed::MongoProcessed,
    snapshot::Snapshot,
    source::{Projection, StreamPolicy},
};

/// A runtime's settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) policy: Policy,
    pub(crate) stream: StreamPolicy,
    pub(crate) projection: Projection,
    pub(crate) concurrency: usize,
    pub(crate) in_flight_events: usize,
    pub(crate) in_flight_bytes: usize,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) checkpoint_events: u64,
    pub(crate) drain_deadline: Duration,
    pub(crate) batch_size: u32,
    pub(crate) reply_timeout: Duration,
    pub(crate) lease: Duration,
    pub(crate) snapshot: Snapshot,
    /// In documents per second; 0 for as many as come.
    pub(crate) snapshot_rate: u32,
    pub(crate) snapshot_readers: usize,
    pub(crate) snapshot_chunk: usize,
    pub(crate) partitions: u32,
    pub(crate) processed_retention: Duration,
}

impl Config {
    /// An idle stream is checkpointed this much less often than a busy one.
    const IDLE_FACTOR: u32 = 30;

    /// How many rows of snapshots are on the lanes at most: as many as keep them busy, and no more, for an event of
    /// the same key waits for them.
    pub(crate) fn rows_in_flight(&self) -> usize {
        self.concurrency.saturating_mul(4)
    }

    /// The most events that were taken in and are in no checkpoint that is saved or about to be.
    pub(crate) fn uncommitted_events(&self) -> u64 {
        let in_flight = self.in_flight_events as u64;
        self.checkpoint_events.saturating_add(in_flight)
    }

    pub(crate) fn idle_checkpoint_interval(&self) -> Duration {
        self.checkpoint_interval.saturating_mul(Self::IDLE_FACTOR)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            stream: StreamPolicy::default(),
            projection: Projection::default(),
            concurrency: 16,
            in_flight_events: 1_024,
            in_flight_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(1),
            checkpoint_events: 10_000,
            drain_deadline: Duration::from_secs(30),
            batch_size: 3_000,
            reply_timeout: Duration::from_secs(30),
            lease: Duration::from_secs(30),
            snapshot: Snapshot::default(),
            snapshot_rate: 0,
            snapshot_readers: 4,
            snapshot_chunk: 1_000,
            partitions: 1,
            processed_retention: MongoProcessed::RETENTION,
        }
    }
}
