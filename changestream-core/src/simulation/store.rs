use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use tokio::time::sleep;

use super::{
    behaviour::rng_at,
    oracle::Oracle,
    world::{millis, percent, position},
};
use crate::{
    Checkpoint, CheckpointStore, Claimed, DeadLetter, DeadLetterFilter, DeadLetterStore,
    DeadLetterSummary, Gap, MemoryCheckpoints, MemoryDeadLetters, ReplayMark, Saved, StoreError,
    StoredCheckpoint,
};

/// A store that fails, and tells the oracle what it really did.
#[derive(Clone, Debug)]
pub(super) struct Faulty<S> {
    store: S,
    oracle: Arc<Oracle>,
    operations: Arc<AtomicU32>,
    kind: u32,
}

/// What goes wrong with an operation.
enum Fault {
    None,
    /// It was not done.
    Refused,
    /// It was done, and the reply is lost.
    LostReply,
    /// Nothing comes of it, and no reply either.
    Silence,
}

impl<S> Faulty<S> {
    pub(super) fn new(store: S, oracle: &Arc<Oracle>, kind: u32) -> Self {
        Self {
            store,
            oracle: Arc::clone(oracle),
            operations: Arc::default(),
            kind,
        }
    }

    async fn fault(&self) -> Fault {
        let operation = self.operations.fetch_add(1, Ordering::Relaxed);
        let world = self.oracle.world();
        let rng = &mut rng_at(world.seed, &[self.kind, operation]);
        if percent(rng, 30) {
            sleep(millis(rng, 0, 300)).await;
        }
        if !percent(rng, world.faults) {
            return Fault::None;
        }
        match rng.u32(0..5) {
            0..2 => Fault::Refused,
            2..4 => Fault::LostReply,
            _ => Fault::Silence,
        }
    }
}

fn failed<T>() -> Result<T, StoreError> {
    Err(StoreError::new("told to fail"))
}

#[async_trait]
impl CheckpointStore for Faulty<MemoryCheckpoints> {
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.store.load(runtime).await
    }

    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError> {
        self.store.claim(runtime, epoch).await
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        let fault = self.fault().await;
        match fault {
            Fault::Refused => return failed(),
            Fault::Silence => pending::<()>().await,
            Fault::None | Fault::LostReply => {}
        }
        let saved = self.store.save(runtime, checkpoint).await?;
        if saved == Saved::Yes {
            let token = checkpoint.token().expect("each of these has a token");
            self.oracle.saved(position(token));
        }
        match fault {
            Fault::LostReply => failed(),
            _ => Ok(saved),
        }
    }

    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        self.store.record_gap(gap).await
    }

    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.store.list().await
    }

    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        self.store.reset(runtime).await
    }
}

#[async_trait]
impl DeadLetterStore for Faulty<MemoryDeadLetters> {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let fault = self.fault().await;
        match fault {
            Fault::Refused => return failed(),
            Fault::Silence => pending::<()>().await,
            Fault::None | Fault::LostReply => {}
        }
        self.store.write(letter).await?;
        self.oracle.dead_lettered(letter);
        match fault {
            Fault::LostReply => failed(),
            _ => Ok(()),
        }
    }

    async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterSummary>,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StoreError> {
        self.store.list(filter, after, limit).await
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        self.store.get(id).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.store.remove(id).await
    }

    async fn mark(&self, id: &str, mark: &ReplayMark) -> Result<bool, StoreError> {
        self.store.mark(id, mark).await
    }
}
