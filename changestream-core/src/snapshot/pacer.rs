use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Keeps all readers together to a rate.
#[derive(Debug)]
pub(crate) struct Pacer {
    rate: Option<NonZeroU32>,
    /// When what has passed so far was due.
    due: Mutex<Instant>,
}

impl Pacer {
    pub(crate) fn new(rate: Option<NonZeroU32>) -> Self {
        Self {
            rate,
            due: Mutex::new(Instant::now()),
        }
    }

    /// Waits until so many documents more are due.
    pub(crate) async fn pass(&self, documents: usize) {
        let Some(rate) = self.rate else { return };
        let wait = Duration::from_secs_f64(documents as f64 / f64::from(rate.get()));
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            *due = (*due).max(Instant::now()) + wait;
            *due
        };
        sleep_until(due).await;
    }

    /// The most documents in a chunk of `most` that are due within a second.
    pub(crate) fn chunk(&self, most: usize) -> usize {
        self.rate.map_or(most, |rate| most.min(rate.get() as usize))
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_readers_together_keep_the_rate() {
        let begun = Instant::now();
        let pacer = Pacer::new(NonZeroU32::new(100));
        assert_eq!(pacer.chunk(1_000), 100);
        join_all((0..10).map(|_| pacer.pass(50))).await;
        assert_eq!(begun.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_made_up_for() {
        let pacer = Pacer::new(NonZeroU32::new(100));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        pacer.pass(100).await;
        assert_eq!(begun.elapsed().as_secs(), 1);
    }
}
