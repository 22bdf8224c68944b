use std::{sync::Arc, time::Duration};

use mongodb::Client;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Batch, Plan, Position, fault::Fault, fragment::Assembly, patience::silence, prefetch::Replies,
};
use crate::error::{Error, Kind};

/// An open cursor. It belongs to one task and is dropped, not used, after any fault.
pub(crate) struct Cursor {
    replies: Replies,
    received: u64,
    assembly: Assembly,
}

impl Cursor {
    /// `room` is for the batches that there may be at a time.
    pub(crate) async fn open(
        plan: &Plan,
        client: &Client,
        position: &Position,
        patience: Duration,
        room: Arc<Semaphore>,
    ) -> Result<Self, Fault> {
        let opening = timeout(patience, plan.open(client, position)).await;
        let cursor = match opening {
            Err(_elapsed) => return Err(Fault::Transient(silence())),
            Ok(opened) => opened.map_err(Fault::of_aggregate)?,
        };
        let patience = Plan::MAX_AWAIT_TIME.saturating_add(patience);
        Ok(Self {
            replies: Replies::of(cursor, room, patience),
            received: 0,
            assembly: Assembly::at(position),
        })
    }

    /// Where the stream is now: after everything that was written before.
    pub(crate) async fn now(
        plan: &Plan,
        client: &Client,
        patience: Duration,
    ) -> Result<Position, Fault> {
        let plan = plan.without_events();
        // The reply to the `aggregate` tells; no other is asked for.
        let room = Arc::new(Semaphore::new(1));
        let mut cursor = Self::open(&plan, client, &Position::Now, patience, room).await?;
        let batch = cursor.next().await?;
        drop(cursor);
        let end = batch.and_then(|batch| batch.end());
        Ok(end.map_or(Position::Now, |end| {
            let (token, kind) = end.token();
            Position::Token(token, kind)
        }))
    }

    /// Whether a `getMore` has succeeded; the first batch is the reply to the `aggregate`.
    pub(crate) fn has_got_more(&self) -> bool {
        self.received > 1
    }

    /// The next batch, which may be empty, as in the middle of a split event; `None` once the server has closed the cursor.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>, Fault> {
        let Some(received) = self.replies.next().await.transpose()? else {
            return Ok(None);
        };
        self.received += 1;
        let batch = Batch::of_reply(received, &mut self.assembly);
        batch.map(Some).map_err(|error| {
            let message = "a batch of the stream cannot be read";
            Fault::Fatal(Error::new(Kind::Stream, message).caused_by(error))
        })
    }
}
