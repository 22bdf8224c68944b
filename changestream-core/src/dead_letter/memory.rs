use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bson::DateTime;

use super::{
    DeadLetter, DeadLetterFilter, DeadLetterStore, DeadLetterSummary, ReplayMark, ReplayRequest,
};
use crate::error::StoreError;

/// Dead letters in memory, for tests. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetters {
    letters: Arc<Mutex<Vec<DeadLetter>>>,
}

impl MemoryDeadLetters {
    /// What was written so far, in the order in which it was.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<DeadLetter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DeadLetterStore for MemoryDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let mut letters = self.lock();
        letters.retain(|written| written.id() != letter.id());
        letters.push(letter.clone());
        Ok(())
    }

    async fn list(
        &self,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterSummary>,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StoreError> {
        let letters = self.lock();
        let meant = letters
            .iter()
            .map(DeadLetter::summary)
            .filter(|letter| filter.matches(letter))
            .filter(|letter| after.is_none_or(|after| letter.place() > after.place()));
        let mut meant: Vec<_> = meant.cloned().collect();
        meant.sort_by(|a, b| a.place().cmp(&b.place()));
        meant.truncate(limit as usize);
        Ok(meant)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let letters = self.lock();
        Ok(letters.iter().find(|letter| letter.id() == id).cloned())
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let mut letters = self.lock();
        let before = letters.len();
        letters.retain(|letter| letter.id() != id);
        Ok(letters.len() < before)
    }

    async fn mark(&self, id: &str, mark: &ReplayMark) -> Result<bool, StoreError> {
        let mut letters = self.lock();
        let letter = letters.iter_mut().find(|letter| letter.id() == id);
        Ok(letter.is_some_and(|letter| apply(mark, &mut letter.summary_mut().replay)))
    }
}

fn apply(mark: &ReplayMark, replay: &mut Option<ReplayRequest>) -> bool {
    match (mark, replay.as_mut()) {
        (ReplayMark::Requested { by }, _) => {
            *replay = Some(ReplayRequest {
                requested_at: DateTime::now(),
                requested_by: by.clone(),
                taken_at: None,
                refused: None,
            });
        }
        (ReplayMark::Taken, Some(replay)) => replay.taken_at = Some(DateTime::now()),
        (ReplayMark::Refused { reason }, Some(replay)) => replay.refused = Some(reason.clone()),
        (ReplayMark::Withdrawn, Some(ReplayRequest { taken_at: None, .. })) => *replay = None,
        _ => return false,
    }
    true
}
