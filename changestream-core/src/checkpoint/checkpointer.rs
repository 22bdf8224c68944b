use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::{Checkpoint, CheckpointStore, Saved};
use crate::{
    error::{Error, Kind, StoreError},
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
    /// That of the last checkpoint that was tried.
    pub(crate) sequence: i64,
}

impl Checkpointer {
    /// How far above the stored sequence a runtime begins: a write of its predecessor that was under way
    /// when that one crashed is below its own, and does not pass for a second runtime.
    pub(crate) const HEADROOM: i64 = 1 << 20;

    /// Saves each mark that comes, until no more can come.
    ///
    /// A failing store is tried again and again; who sends marks waits meanwhile.
    pub(crate) async fn run(mut self, mut marks: mpsc::Receiver<Mark>) -> Result<(), Error> {
        while let Some(mark) = marks.recv().await {
            let mut failures = 0;
            while let Err(error) = self.save(&mark).await? {
                failures += 1;
                let wait = BACKOFF.wait(failures);
                tracing::error!(
                    error = error.brief(),
                    ?wait,
                    "the checkpoint cannot be saved; it is tried again"
                );
                sleep(wait).await;
            }
        }
        Ok(())
    }

    /// Saves where a runtime starts that was never here before, so that it finds its way back to there
    /// whatever happens to the first events.
    pub(crate) async fn save_first(&mut self, start: &Mark) -> Result<(), Error> {
        self.save(start).await?.map_err(|error| {
            Error::new(Kind::Store, "the first checkpoint cannot be saved").caused_by(error)
        })
    }

    /// Each attempt has a sequence of its own, so that one whose reply was lost does not make the next
    /// one stale.
    async fn save(&mut self, mark: &Mark) -> Result<Result<(), StoreError>, Error> {
        let (token, kind) = mark.token();
        self.sequence += 1;
        let checkpoint = Checkpoint {
            token,
            kind,
            fingerprint: self.fingerprint.clone(),
            sequence: self.sequence,
        };
        crate::crash_point!("checkpoint.due");
        match self.store.save(&self.runtime, &checkpoint).await {
            Ok(Saved::Yes) => {
                crate::crash_point!("checkpoint.saved");
                Ok(Ok(()))
            }
            Ok(Saved::Stale) => Err(Error::new(
                Kind::Store,
                format!(
                    "another runtime named `{}` saves checkpoints as well; give each service its own name, and run \
                     one instance of it",
                    self.runtime
                ),
            )),
            Err(error) => Ok(Err(error)),
        }
    }
}
