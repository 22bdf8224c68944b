use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Checkpoint, CheckpointStore, ResumePoint, Saved};
use crate::{
    error::{Error, Kind, StoreError},
    health::{HealthReporter, Part},
    layer::Backoff,
    source::Mark,
};

/// Between attempts to save a checkpoint.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// The task that saves checkpoints, one after the other.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    pub(crate) store: Arc<dyn CheckpointStore>,
    pub(crate) runtime: Arc<str>,
    pub(crate) fingerprint: String,
    pub(crate) epoch: i64,
    /// That of the last checkpoint.
    pub(crate) sequence: i64,
    /// How long a save may take before it counts as failed.
    pub(crate) patience: Duration,
    pub(crate) health: HealthReporter,
}

impl Checkpointer {
    /// Saves each mark that comes, until no more can come. Who sends marks waits meanwhile.
    pub(crate) async fn run(mut self, mut marks: mpsc::Receiver<Mark>) -> Result<(), Error> {
        while let Some(mark) = marks.recv().await {
            let (token, kind) = mark.token();
            self.save(ResumePoint::of_token(token, kind)).await?;
        }
        Ok(())
    }

    /// Saves a position. A failing store is tried again and again, as long as nobody else has claimed the
    /// checkpoint.
    pub(crate) async fn save(&mut self, position: ResumePoint) -> Result<(), Error> {
        let checkpoint = self.next(position);
        let mut failures = 0;
        loop {
            crate::crash_point!("checkpoint.due");
            let error = match self.try_save(&checkpoint).await {
                Ok(Saved::Yes) => {
                    crate::crash_point!("checkpoint.saved");
                    self.health.checkpointed();
                    return Ok(());
                }
                Ok(Saved::Stale) => {
                    let message =
                        "another replica has taken over, and goes on from the last checkpoint";
                    return Err(Error::new(Kind::LeaseLost, message));
                }
                Err(error) => error,
            };
            failures += 1;
            let wait = BACKOFF.wait(failures);
            self.health.interrupted(Part::Checkpoints, error.brief());
            tracing::error!(
                error = error.brief(),
                ?wait,
                "the checkpoint cannot be saved; it is tried again"
            );
            sleep(wait).await;
        }
    }

    async fn try_save(&self, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        let saving = self.store.save(&self.runtime, checkpoint);
        let saved = timeout(self.patience, saving).await;
        saved.unwrap_or_else(|_elapsed| {
            let patience = self.patience;
            Err(StoreError::new(format!(
                "the checkpoint store did not answer for {patience:?}"
            )))
        })
    }

    fn next(&mut self, position: ResumePoint) -> Checkpoint {
        self.sequence += 1;
        Checkpoint {
            position: Some(position),
            fingerprint: self.fingerprint.clone(),
            epoch: self.epoch,
            sequence: self.sequence,
        }
    }
}
