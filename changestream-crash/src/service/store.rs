//! The stores of the service, which note down what is asked of them and what comes of it.

use std::{future::Future, pin::pin};

use async_trait::async_trait;
use changestream::{
    Checkpoint, CheckpointStore, Claimed, DeadLetter, DeadLetterFilter, DeadLetterStore,
    DeadLetterSummary, Gap, MongoCheckpoints, MongoDeadLetters, RawChange, ReplayMark, Saved,
    StoreError, StoredCheckpoint, bson,
};

use super::{App, change::Written, crash_point};
use crate::log::{Deed, Place};

#[derive(Debug)]
pub(super) struct LoggedCheckpoints {
    pub(super) app: App,
    pub(super) inner: MongoCheckpoints,
}

#[async_trait]
impl CheckpointStore for LoggedCheckpoints {
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.load(runtime).await
    }

    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError> {
        self.app.note(Deed::Loading);
        let claimed = self.inner.claim(runtime, epoch).await?;
        if let Claimed::Yes(checkpoint) = &claimed {
            let placed = checkpoint.position.is_some().then(|| place(checkpoint));
            self.app.note(Deed::Loaded(placed));
        }
        Ok(claimed)
    }

    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        self.inner.record_gap(gap).await
    }

    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.inner.list().await
    }

    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        self.inner.reset(runtime).await
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        let place = place(checkpoint);
        self.app.note(Deed::Saving(place.clone()));
        let saving = self.inner.save(runtime, checkpoint);
        let saved = reply_lost_at("checkpoint.reply_lost", saving).await?;
        self.app.note(match saved {
            Saved::Yes => Deed::Saved(place),
            _ => Deed::Refused(place),
        });
        Ok(saved)
    }
}

#[derive(Debug)]
pub(super) struct LoggedDeadLetters {
    pub(super) app: App,
    pub(super) inner: MongoDeadLetters,
}

#[async_trait]
impl DeadLetterStore for LoggedDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        reply_lost_at("dead_letter.reply_lost", self.inner.write(letter)).await?;
        let change = RawChange::new(letter.change().as_bytes().to_vec());
        let change = change.expect("it came from the server");
        let written = Written::of(&change).expect("only what the writer wrote is handled");
        let deed = written.given_up(&change.event_id(), &change.token());
        self.app.note(deed);
        Ok(())
    }

    async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterSummary>,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StoreError> {
        self.inner.list(filter, after, limit).await
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.get(id).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.inner.remove(id).await
    }

    async fn mark(&self, id: &str, mark: &ReplayMark) -> Result<bool, StoreError> {
        self.inner.mark(id, mark).await
    }
}

/// The crash point `name` lies where `request` was sent and its reply has not come.
async fn reply_lost_at<T>(name: &str, request: impl Future<Output = T>) -> T {
    let mut request = pin!(request);
    if let std::task::Poll::Ready(reply) = futures::poll!(&mut request) {
        return reply;
    }
    crash_point(name);
    request.await
}

fn place(checkpoint: &Checkpoint) -> Place {
    let fields = bson::serialize_to_document(checkpoint).expect("it is saved as such");
    Place::of(&fields)
}
