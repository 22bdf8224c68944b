use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinSet, yield_now},
    time::timeout,
};

use super::{fault::Fault, patience::silence};

/// How many batches of a stream there are at a time: one that is worked on, one that is read ahead.
pub(super) const BATCHES: usize = 2;

/// A reply of more bytes is most often of a stream that is behind.
const LARGE: usize = 64 << 10;

/// A reply of the server, with the room that it takes until all of it is on the lanes.
pub(super) struct Received {
    pub(super) reply: RawBatch,
    pub(super) room: OwnedSemaphorePermit,
}

impl Received {
    fn is_large(&self) -> bool {
        self.reply.as_raw_document().as_bytes().len() > LARGE
    }
}

/// The replies of a cursor. The next is asked for as soon as there is room for it, whatever else is done meanwhile.
///
/// Dropped, it asks for no more.
pub(super) struct Replies {
    replies: mpsc::Receiver<Result<Received, Fault>>,
    _reader: JoinSet<()>,
}

impl Replies {
    /// `patience` is how long a reply may take.
    pub(super) fn of(cursor: RawBatchCursor, room: Arc<Semaphore>, patience: Duration) -> Self {
        let (received, replies) = mpsc::channel(BATCHES);
        let mut reader = JoinSet::new();
        reader.spawn(read(cursor, room, patience, received));
        Self {
            replies,
            _reader: reader,
        }
    }

    /// The next one; `None` once the server has closed the cursor.
    pub(super) async fn next(&mut self) -> Option<Result<Received, Fault>> {
        self.replies.recv().await
    }
}

async fn read(
    mut cursor: RawBatchCursor,
    room: Arc<Semaphore>,
    patience: Duration,
    received: mpsc::Sender<Result<Received, Fault>>,
) {
    while let Ok(room) = Arc::clone(&room).acquire_owned().await {
        let reply = match timeout(patience, cursor.next()).await {
            Ok(Some(Ok(reply))) => Ok(Received { reply, room }),
            Ok(Some(Err(error))) => Err(Fault::of_cursor(error)),
            Ok(None) => return,
            Err(_elapsed) => Err(Fault::Resumable(silence())),
        };
        let is_over = reply.is_err();
        let is_large = reply.as_ref().is_ok_and(Received::is_large);
        if received.send(reply).await.is_err() || is_over {
            return;
        }
        // To ask for more takes a while, in which what has come would wait. A stream that is behind waits for the server.
        if !is_large {
            yield_now().await;
        }
    }
}
