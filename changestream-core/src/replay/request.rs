use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::ReplayOutcome;
use crate::{
    dead_letter::{DeadLetterFilter, DeadLetterStore, DeadLetterSummary, ReplayMark},
    error::StoreError,
};

/// Between looks at the letter that is waited for.
const POLL: Duration = Duration::from_millis(200);

/// A replay that was asked of running runtimes, wherever they are: to be waited for, letter by letter.
///
/// A runtime looks for requests every second, and carries out those of its name oldest letter first. It
/// does so beside the stream: the handler may see an old event after newer ones of the same document. One
/// that dies in the middle begins the letter at hand anew when it is back, so a replay, as any event, comes
/// at least once.
///
/// # Example
///
/// ```no_run
/// use std::{sync::Arc, time::Duration};
///
/// use changestream_core::{DeadLetterFilter, DeadLetterStore, MongoDeadLetters, Replay};
///
/// # async fn run(database: mongodb::Database) -> Result<(), Box<dyn std::error::Error>> {
/// let letters = Arc::new(MongoDeadLetters::new(&database));
/// let filter = DeadLetterFilter::default().runtime("fulfillment").handler("order_stored");
/// let oldest = letters.list(&filter, None, 10).await?;
/// let mut replay = Replay::request(letters, oldest, Some("on call")).await?;
/// while let Some((letter, outcome)) = replay.next(Duration::from_secs(30)).await? {
///     println!("{}: {outcome:?}", letter.id);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Replay {
    store: Arc<dyn DeadLetterStore>,
    /// Those whose outcome is not known, and whether each was marked.
    waiting: VecDeque<(DeadLetterSummary, bool)>,
}

/// Why a replay is not waited for any longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// No runtime took the request.
    #[error(
        "no runtime named `{runtime}` is running, or it keeps its dead letters elsewhere: nobody took the request \
         within {waited:?}. It is withdrawn"
    )]
    NotTaken {
        /// The name of the runtime that was asked.
        runtime: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A runtime took the request, and no more was heard of it.
    #[error(
        "runtime `{runtime}` began to replay `{id}` and did not report back within {waited:?}: it is still at it, \
         or begins anew when it is back. What it had not begun is withdrawn"
    )]
    NotFinished {
        /// The name of the runtime that was asked.
        runtime: String,
        /// The letter's id.
        id: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Replay {
    /// Sorts letters as they are replayed: oldest change first.
    pub fn sort(letters: &mut [DeadLetterSummary]) {
        letters.sort_by(|a, b| a.place().cmp(&b.place()));
    }

    /// Asks for the replay of these letters. The name of who asks is kept with the request.
    ///
    /// # Errors
    ///
    /// When a request cannot be written; those already written stand.
    pub async fn request(
        store: Arc<dyn DeadLetterStore>,
        mut letters: Vec<DeadLetterSummary>,
        by: Option<&str>,
    ) -> Result<Self, StoreError> {
        Self::sort(&mut letters);
        let request = ReplayMark::Requested {
            by: by.map(str::to_owned),
        };
        let mut waiting = VecDeque::with_capacity(letters.len());
        for letter in letters {
            let marked = store.mark(&letter.id, &request).await?;
            waiting.push_back((letter, marked));
        }
        Ok(Self { store, waiting })
    }

    /// The outcome of the next letter; `None` after the last.
    ///
    /// Waits while there is news of it at least every `patience`. Done waiting, it withdraws what no
    /// runtime has taken.
    ///
    /// # Errors
    ///
    /// When it was waited for too long, or the store fails.
    pub async fn next(
        &mut self,
        patience: Duration,
    ) -> Result<Option<(DeadLetterSummary, ReplayOutcome)>, ReplayError> {
        let Some((letter, marked)) = self.waiting.front().cloned() else {
            return Ok(None);
        };
        let outcome = match marked {
            true => self.outcome(&letter, patience).await?,
            false => ReplayOutcome::Gone,
        };
        self.waiting.pop_front();
        Ok(Some((letter, outcome)))
    }

    async fn outcome(
        &self,
        letter: &DeadLetterSummary,
        patience: Duration,
    ) -> Result<ReplayOutcome, ReplayError> {
        let this = DeadLetterFilter::default().id(&letter.id);
        let mut taken_at = None;
        let mut last_news = Instant::now();
        loop {
            let found = self.store.list(&this, None, 1).await?;
            let Some(found) = found.into_iter().next() else {
                return Ok(ReplayOutcome::Replayed);
            };
            let Some(request) = found.replay.clone() else {
                return Ok(ReplayOutcome::FailedAgain(Box::new(found)));
            };
            if let Some(reason) = request.refused {
                return Ok(ReplayOutcome::Refused(reason));
            }
            if request.taken_at != taken_at {
                taken_at = request.taken_at;
                last_news = Instant::now();
            }
            if last_news.elapsed() >= patience {
                let withdrawn = self.withdraw().await?;
                let runtime = letter.runtime.clone();
                return Err(match withdrawn.first() {
                    Some(true) => ReplayError::NotTaken {
                        runtime,
                        waited: patience,
                    },
                    _ => ReplayError::NotFinished {
                        runtime,
                        id: letter.id.clone(),
                        waited: patience,
                    },
                });
            }
            sleep(POLL).await;
        }
    }

    /// Withdraws what no runtime has taken yet, and says of each letter whether it was so.
    async fn withdraw(&self) -> Result<Vec<bool>, StoreError> {
        let mut withdrawn = Vec::with_capacity(self.waiting.len());
        // The youngest first: a runtime that comes meanwhile takes the oldest.
        for (letter, _) in self.waiting.iter().rev() {
            withdrawn.push(self.store.mark(&letter.id, &ReplayMark::Withdrawn).await?);
        }
        withdrawn.reverse();
        Ok(withdrawn)
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
