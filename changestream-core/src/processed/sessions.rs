use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bson::{Document, doc};
use mongodb::{Collection, Database, error::Error as DriverError};

/// The most sessions that are remembered. A runtime uses one for each event that it handles at the same time, and the
/// driver new ones in place of those that expired.
const CAPACITY: usize = 1_000;

/// The sessions whose transactions a crash of this runtime can leave open on the server.
///
/// They are written down before they are used. A successor has the server end them, so that it need not wait
/// until the server gives up their transactions.
#[derive(Debug)]
pub(super) struct Sessions {
    collection: Collection<Document>,
    id: String,
    known: Mutex<HashSet<Vec<u8>>>,
}

impl Sessions {
    pub(super) fn new(collection: Collection<Document>, runtime: &str) -> Self {
        Self {
            collection,
            id: format!("{runtime}/sessions"),
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `session` down, unless it is.
    pub(super) async fn register(&self, session: &Document) -> Result<(), DriverError> {
        let bytes = bson::serialize_to_vec(session)?;
        if self.known().contains(&bytes) {
            return Ok(());
        }
        let last = i32::try_from(CAPACITY)
            .map(|capacity| -capacity)
            .unwrap_or(i32::MIN);
        let push = doc! { "sessions": { "$each": [session], "$slice": last } };
        let pushing = self
            .collection
            .update_one(doc! { "_id": &self.id }, doc! { "$push": push });
        pushing.upsert(true).await?;
        let mut known = self.known();
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(bytes);
        Ok(())
    }

    /// Ends the sessions of a predecessor, and so its transactions. Where that fails, the server ends them in its time.
    pub(super) async fn kill_left_behind(&self, database: &Database) {
        let killed = async {
            let left = self
                .collection
                .find_one_and_delete(doc! { "_id": &self.id });
            let Some(left) = left.await? else {
                return Ok(());
            };
            let Ok(sessions) = left.get_array("sessions") else {
                return Ok(());
            };
            let admin = database.client().database("admin");
            let kill = doc! { "killSessions": sessions };
            admin.run_command(kill).await.map(drop)
        };
        let killed: Result<(), DriverError> = killed.await;
        if let Err(error) = killed {
            tracing::warn!(
                error = %error.kind,
                "transactions that a crash left open cannot be ended; the server ends them after \
                 `transactionLifetimeLimitSeconds`"
            );
        }
    }
}
