use std::time::Duration;

use futures::StreamExt;
use mongodb::{Client, raw_batch_cursor::RawBatchCursor};
use tokio::time::timeout;

use super::{Batch, Plan, Position, fault::Fault, fragment::Assembly, patience::silence};
use crate::error::{Error, Kind};

/// An open cursor. It belongs to one task and is dropped, not used, after any fault.
pub(crate) struct Cursor {
    cursor: Box<RawBatchCursor>,
    replies: u64,
    patience: Duration,
    assembly: Assembly,
}

impl Cursor {
    pub(crate) async fn open(
        plan: &Plan,
        client: &Client,
        position: &Position,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let opening = timeout(patience, plan.open(client, position)).await;
        match opening {
            Err(_elapsed) => Err(Fault::Transient(silence())),
            Ok(Err(error)) => Err(Fault::of_aggregate(error)),
            Ok(Ok(cursor)) => Ok(Self {
                cursor: Box::new(cursor),
                replies: 0,
                patience,
                assembly: Assembly::at(position),
            }),
        }
    }

    /// Where the stream is now: after everything that was written before.
    pub(crate) async fn now(
        plan: &Plan,
        client: &Client,
        patience: Duration,
    ) -> Result<Position, Fault> {
        let mut cursor =
            Self::open(&plan.without_events(), client, &Position::Now, patience).await?;
        let end = cursor.next().await?.and_then(|batch| batch.end());
        Ok(end.map_or(Position::Now, |end| {
            let (token, kind) = end.token();
            Position::Token(token, kind)
        }))
    }

    /// Whether a `getMore` has succeeded; the first batch is the reply to the `aggregate`.
    pub(crate) fn has_got_more(&self) -> bool {
        self.replies > 1
    }

    /// The next batch, which may be empty, as in the middle of a split event; `None` once the server has closed the cursor.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>, Fault> {
        let reply = timeout(
            Plan::MAX_AWAIT_TIME.saturating_add(self.patience),
            self.cursor.next(),
        )
        .await;
        match reply {
            Err(_elapsed) => Err(Fault::Resumable(silence())),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err(Fault::of_cursor(error)),
            Ok(Some(Ok(reply))) => {
                self.replies += 1;
                let batch = Batch::of_reply(reply, &mut self.assembly);
                batch.map(Some).map_err(|error| {
                    let message = "a batch of the stream cannot be read";
                    Fault::Fatal(Error::new(Kind::Stream, message).caused_by(error))
                })
            }
        }
    }
}
