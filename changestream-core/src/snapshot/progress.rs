use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{SnapshotRecord, SnapshotStore};
use crate::{
    checkpoint::Saved,
    error::{Error, Kind, StoreError},
    layer::Backoff,
};

/// Between attempts to read or save a record.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// How far the snapshots of a runtime have come, for whoever holds its lease.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) store: Arc<dyn SnapshotStore>,
    pub(crate) runtime: Arc<str>,
    pub(crate) epoch: i64,
}

impl Progress {
    pub(crate) async fn load(&self) -> Result<Vec<SnapshotRecord>, Error> {
        patiently(|| self.store.load(&self.runtime)).await
    }

    pub(crate) async fn save(&self, record: &SnapshotRecord) -> Result<(), Error> {
        match patiently(|| self.store.save(&self.runtime, record)).await? {
            Saved::Yes => Ok(()),
            Saved::Stale => {
                let message = "another replica has taken over, and goes on with the snapshot";
                Err(Error::new(Kind::LeaseLost, message))
            }
        }
    }

    /// Forgets what was done, so that all is taken anew: for when the stream cannot go on from where it was. What was
    /// missed must be recorded before, and the stream must not move before this is done.
    pub(crate) async fn start_over(&self) -> Result<Vec<SnapshotRecord>, Error> {
        let mut records = Vec::new();
        for done in self.load().await? {
            let collection = done.collection.as_deref();
            let record = SnapshotRecord::new(&done.database, collection, self.epoch);
            self.save(&record).await?;
            records.push(record);
        }
        Ok(records)
    }
}

/// Tries until the store does it.
async fn patiently<T, F>(attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut failures = 0;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failures += 1;
        let wait = BACKOFF.wait(failures);
        tracing::error!(
            error = error.brief(),
            ?wait,
            "the snapshot waits for its store"
        );
        sleep(wait).await;
    }
}
