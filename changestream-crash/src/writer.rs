//! The writer: gives documents one version after the other, and notes what the server acknowledged.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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
/// One batch of the first writer in so many is of its large document, where the run is about those.
const BATCHES_PER_LARGE: u8 = 16;
/// The size of a large document: its event carries it as it was before and as it is now, and the server splits events of more than 16 MB.
const LARGE: usize = 9 << 20;
/// Between attempts at a write.
const PAUSE: Duration = Duration::from_millis(20);

/// The key of the last write of all.
pub(crate) const LAST: &str = "last";

/// Writes to a database.
#[derive(Debug)]
pub(crate) struct Writer {
    client: Client,
    database: Database,
    pace: Pace,
    acknowledged: Arc<AtomicU64>,
    hands: Vec<Hand>,
    writes_large: bool,
}

/// One of the writers that write side by side.
#[derive(Debug)]
struct Hand {
    index: u64,
    rng: Rng,
    /// How many keys it has that do not get many versions.
    cold_keys: u64,
    /// The last version of each key.
    numbers: HashMap<String, u64>,
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
    /// Writes what comes from `seed`, for so many versions in all.
    pub(crate) fn new(
        client: Client,
        database: Database,
        pace: Pace,
        seed: u64,
        events: u64,
    ) -> Self {
        let hand = |index| Hand {
            index,
            rng: Rng::with_seed(seed ^ (index << 32)),
            cold_keys: (events / WRITERS / 2 / VERSIONS_PER_COLD_KEY).max(1),
            numbers: HashMap::new(),
        };
        Self {
            client,
            database,
            pace,
            acknowledged: Arc::default(),
            hands: (0..WRITERS).map(hand).collect(),
            writes_large: false,
        }
    }

    /// Writes a large document now and then.
    pub(crate) fn writes_large(mut self, writes_large: bool) -> Self {
        self.writes_large = writes_large;
        self
    }

    /// How many versions were acknowledged by the last [`write`](Self::write) so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// The number of [`acknowledged`](Self::acknowledged), to be looked at while it writes.
    pub(crate) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.acknowledged)
    }

    /// Writes so many versions, each again and again until the server acknowledges it, and notes those in `log`.
    pub(crate) async fn write(&mut self, events: u64, log: &Log) -> Result<()> {
        self.acknowledged.store(0, Ordering::SeqCst);
        let mut hands = std::mem::take(&mut self.hands);
        let writer = &*self;
        let share = events / WRITERS;
        let writing = hands.iter_mut().map(|hand| writer.lead(hand, share, log));
        let written = try_join_all(writing).await;
        self.hands = hands;
        written.map(drop)
    }

    /// Writes the one version of [`LAST`].
    pub(crate) async fn write_last(&self, log: &Log) -> Result<()> {
        let last = Version {
            key: LAST.to_owned(),
            number: 1,
        };
        let statement = statement(&last, Trouble::None, false);
        self.apply(vec![statement], false).await?;
        self.acknowledge(&[last], log)
    }

    async fn lead(&self, hand: &mut Hand, mut left: u64, log: &Log) -> Result<()> {
        while left > 0 {
            self.pace.keep(self.acknowledged()).await;
            let may_be_large = self.writes_large && hand.index == 0;
            if may_be_large && hand.rng.u8(..BATCHES_PER_LARGE) == 0 {
                let (version, statement) = hand.large();
                self.apply(vec![statement], false).await?;
                self.acknowledge(&[version], log)?;
                left -= 1;
                continue;
            }
            let in_transaction = hand.rng.u8(..40) == 0;
            let most = if in_transaction { 200 } else { 24 };
            let count = hand.rng.u64(1..=most).min(left);
            let (versions, statements): (Vec<_>, Vec<_>) =
                (0..count).map(|_| hand.next_version()).unzip();
            self.apply(statements, in_transaction).await?;
            self.acknowledge(&versions, log)?;
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

    fn acknowledge(&self, versions: &[Version], log: &Log) -> Result<()> {
        log.append(versions)?;
        let count = versions.len() as u64;
        self.acknowledged.fetch_add(count, Ordering::SeqCst);
        Ok(())
    }
}

impl Hand {
    /// The next version of one of its keys, and the statement that writes it.
    fn next_version(&mut self) -> (Version, Document) {
        let (index, rng) = (self.index, &mut self.rng);
        let key = match rng.bool() {
            true => format!("hot-{index}-{}", rng.u64(..HOT_KEYS)),
            false => format!("cold-{index}-{}", rng.u64(..self.cold_keys)),
        };
        let version = self.version_of(key);
        let (trouble, replace) = (trouble(&mut self.rng), self.rng.u8(..8) == 0);
        let statement = statement(&version, trouble, replace);
        (version, statement)
    }

    /// The next version of its large document.
    fn large(&mut self) -> (Version, Document) {
        let version = self.version_of("large".to_owned());
        let mut statement = statement(&version, Trouble::None, false);
        let fill = (version.number % 10).to_string();
        let filler = fill.repeat(LARGE);
        let update = statement.get_document_mut("u").expect("there is an update");
        let operator = if version.number == 1 {
            "$setOnInsert"
        } else {
            "$set"
        };
        let fields = update.get_document_mut(operator);
        fields.expect("it sets fields").insert("filler", filler);
        (version, statement)
    }

    fn version_of(&mut self, key: String) -> Version {
        let number = self.numbers.entry(key.clone()).or_default();
        *number += 1;
        Version {
            key,
            number: *number,
        }
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
