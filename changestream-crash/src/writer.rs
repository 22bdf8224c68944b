//! The writer: gives documents one version after the other, and notes what the server acknowledged.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use changestream::{
    bson::{Bson, Document, doc},
    mongodb::{
        Client, ClientSession, Database,
        error::{Error as DriverError, UNKNOWN_TRANSACTION_COMMIT_RESULT},
        options::WriteConcern,
    },
};
use fastrand::Rng;
use futures::future::try_join_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Result,
    log::{Log, Version},
    run::Progress,
    service::{COLLECTION, STATE, Trouble, Written},
};

/// How many writers there are; each has keys of its own.
const WRITERS: u64 = 4;
/// Keys of a writer that get half of the versions.
const HOT_KEYS: u64 = 2;
/// One version in so many is of the first for its key, about.
const VERSIONS_PER_COLD_KEY: u64 = 8;
/// Between attempts at a write.
const PAUSE: Duration = Duration::from_millis(20);

/// The key of the last write of all.
pub(crate) const LAST: &str = "last";

/// Writes to a database.
#[derive(Debug)]
pub(crate) struct Writer {
    client: Client,
    database: Database,
    log: Log,
    pace: Pace,
    acknowledged: AtomicU64,
}

/// When the next versions are written.
#[derive(Clone, Debug)]
pub(crate) enum Pace {
    /// While the writer is not so many events ahead of the service: so there are writes as long as there are faults.
    Lead(watch::Receiver<Progress>, u64),
    /// So many a second, counted from then on.
    Rate(u32, Instant),
}

impl Writer {
    pub(crate) fn new(client: Client, database: Database, log: Log, pace: Pace) -> Self {
        Self {
            client,
            database,
            log,
            pace,
            acknowledged: AtomicU64::new(0),
        }
    }

    /// How many versions were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Writes so many versions, and then the one of [`LAST`]. It tries each again until the server acknowledges it.
    pub(crate) async fn write(&self, events: u64, seed: u64) -> Result<()> {
        let writers = (0..WRITERS).map(|writer| {
            let rng = Rng::with_seed(seed ^ (writer << 32));
            let share = events / WRITERS;
            self.write_keys(writer, share, rng)
        });
        try_join_all(writers).await?;
        let last = Version {
            key: LAST.to_owned(),
            number: 1,
        };
        let statement = statement(&last, Trouble::None, false);
        self.apply(vec![statement], false).await?;
        self.acknowledge(&[last])
    }

    async fn write_keys(&self, writer: u64, mut left: u64, mut rng: Rng) -> Result<()> {
        let cold = (left / 2 / VERSIONS_PER_COLD_KEY).max(1);
        let mut numbers: HashMap<String, u64> = HashMap::new();
        while left > 0 {
            let in_transaction = rng.u8(..40) == 0;
            let most = if in_transaction { 200 } else { 24 };
            let count = rng.u64(1..=most).min(left);
            let mut versions = Vec::new();
            let mut statements = Vec::new();
            for _ in 0..count {
                let key = match rng.bool() {
                    true => format!("hot-{writer}-{}", rng.u64(..HOT_KEYS)),
                    false => format!("cold-{writer}-{}", rng.u64(..cold)),
                };
                let number = numbers.entry(key.clone()).or_default();
                *number += 1;
                let version = Version {
                    key,
                    number: *number,
                };
                statements.push(statement(&version, trouble(&mut rng), rng.u8(..8) == 0));
                versions.push(version);
            }
            self.pace.keep(self.acknowledged()).await;
            self.apply(statements, in_transaction).await?;
            self.acknowledge(&versions)?;
            left -= count;
        }
        Ok(())
    }

    /// Applies statements that change nothing when they are applied again, until the server acknowledges them all.
    async fn apply(&self, statements: Vec<Document>, in_transaction: bool) -> Result<()> {
        let updates: Vec<_> = statements.into_iter().map(Bson::from).collect();
        let command = doc! { "update": COLLECTION, "updates": updates, "ordered": true };
        loop {
            let applied = match in_transaction {
                true => self.apply_in_transaction(command.clone()).await,
                false => self.apply_directly(command.clone()).await,
            };
            match applied {
                Ok(reply) if is_clean(&reply) => return Ok(()),
                Ok(reply) => tracing::debug!(?reply, "not acknowledged"),
                Err(error) => tracing::debug!(%error, "not acknowledged"),
            }
            sleep(PAUSE).await;
        }
    }

    async fn apply_directly(&self, mut command: Document) -> Result<Document, DriverError> {
        command.insert("writeConcern", doc! { "w": "majority" });
        self.database.run_command(command).await
    }

    async fn apply_in_transaction(&self, command: Document) -> Result<Document, DriverError> {
        let mut session = self.client.start_session().await?;
        let majority = WriteConcern::majority();
        session.start_transaction().write_concern(majority).await?;
        let reply = self.database.run_command(command).session(&mut session);
        let reply = reply.await?;
        if is_clean(&reply) {
            commit(&mut session).await?;
        }
        Ok(reply)
    }

    fn acknowledge(&self, versions: &[Version]) -> Result<()> {
        self.log.append(versions)?;
        let count = versions.len() as u64;
        self.acknowledged.fetch_add(count, Ordering::SeqCst);
        Ok(())
    }
}

impl Pace {
    /// Waits for it, but for the service not for ever: it may be dead, or have lost something.
    async fn keep(&self, written: u64) {
        const PATIENCE: Duration = Duration::from_millis(50);
        match self {
            Self::Lead(progress, lead) => {
                let mut progress = progress.clone();
                let near = progress.wait_for(|now| now.done.saturating_add(*lead) >= written);
                timeout(PATIENCE, near).await.ok();
            }
            Self::Rate(per_second, since) => {
                let due = Duration::from_secs_f64(written as f64 / f64::from(*per_second));
                sleep_until(*since + due).await;
            }
        }
    }
}

async fn commit(session: &mut ClientSession) -> Result<(), DriverError> {
    loop {
        match session.commit_transaction().await {
            Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {
                sleep(PAUSE).await;
            }
            committed => return committed,
        }
    }
}

/// Whether every statement was applied, and by a majority.
fn is_clean(reply: &Document) -> bool {
    !reply.contains_key("writeErrors") && !reply.contains_key("writeConcernError")
}

/// Writes a version, unless it or a later one was written: then it makes no event.
fn statement(version: &Version, trouble: Trouble, replace: bool) -> Document {
    let Version { key, number } = version;
    let state = Written::state(*number, trouble);
    if *number == 1 {
        let inserted = doc! { STATE: state, "filler": "x".repeat(100) };
        return doc! { "q": { "_id": key }, "u": { "$setOnInsert": inserted }, "upsert": true };
    }
    let older = doc! { "_id": key, format!("{STATE}.version"): { "$lt": *number as i64 } };
    let update = match replace {
        true => doc! { STATE: state, "filler": "y".repeat(100) },
        false => doc! { "$set": { STATE: state } },
    };
    doc! { "q": older, "u": update }
}

fn trouble(rng: &mut Rng) -> Trouble {
    match rng.u16(..1_000) {
        0..4 => Trouble::Poison,
        4..8 => Trouble::Fails(rng.u32(1..=2)),
        8..12 => Trouble::FailsLate(rng.u32(1..=2)),
        12..50 => Trouble::Slow(rng.u64(1..=4)),
        _ => Trouble::None,
    }
}
