use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{DeadLetter, DeadLetterStore};
use crate::error::StoreError;

/// Dead letters in memory, for tests. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetters {
    letters: Arc<Mutex<Vec<DeadLetter>>>,
}

impl MemoryDeadLetters {
    /// What was written so far, oldest first.
    pub fn letters(&self) -> Vec<DeadLetter> {
        let letters = self.letters.lock();
        letters.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl DeadLetterStore for MemoryDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.retain(|written| written.id() != letter.id());
        letters.push(letter.clone());
        Ok(())
    }
}
