use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bson::{RawDocumentBuf, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Window, Windows, record};
use crate::{event::RawChange, lane::Lanes};

/// Documents that were read, on their way to the lanes.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) rows: VecDeque<RawChange>,
    pub(crate) window: Window,
    /// It has been waited for already: it goes before others.
    pub(crate) is_again: bool,
    /// When the stream must have come to; `None` where they go at once, room or not.
    pub(crate) ripe_at: Option<Timestamp>,
    pub(crate) in_flight: Rows,
    /// The keys of those that must be read again.
    pub(crate) changed: Vec<RawDocumentBuf>,
    pub(crate) admitted: oneshot::Sender<Vec<RawDocumentBuf>>,
}

/// Counts rows for as long as a handler has still to be done with them. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    open: AtomicUsize,
    done: Notify,
}

impl Rows {
    /// A row goes to so many handlers.
    pub(crate) fn begin(&self, handlers: usize) {
        self.0.open.fetch_add(handlers, Ordering::SeqCst);
    }

    /// A handler is done with a row.
    pub(crate) fn done(&self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.done.notify_one();
        }
    }

    /// Waits until all handlers are done with all rows so far.
    pub(crate) async fn all_done(&self) {
        while self.0.open.load(Ordering::SeqCst) > 0 {
            self.0.done.notified().await;
        }
    }
}

/// The chunks that readers have for the lanes, and where the stream is.
pub(crate) struct Incoming {
    pub(crate) chunks: mpsc::Receiver<Chunk>,
    pub(crate) windows: Arc<Windows>,
    waiting: VecDeque<Chunk>,
}

impl Incoming {
    pub(crate) fn new(chunks: mpsc::Receiver<Chunk>, windows: Arc<Windows>) -> Self {
        Self {
            chunks,
            windows,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, chunk: Chunk) {
        match chunk.is_again {
            false => self.waiting.push_back(chunk),
            true => self.waiting.push_front(chunk),
        }
    }

    /// Hands rows to the lanes as far as the stream has come and there is room. While the stream has events at
    /// hand, only what cannot wait.
    pub(crate) fn admit(&mut self, lanes: &mut Lanes, has_events: bool) {
        let position = self.windows.position();
        let mut has_room = !has_events;
        for mut chunk in std::mem::take(&mut self.waiting) {
            let goes = match chunk.ripe_at {
                Some(time) => has_room && time <= position,
                None => true,
            };
            if goes && !chunk.admit(lanes) {
                has_room = false;
            }
            if chunk.rows.is_empty() {
                // Its reader may be gone.
                chunk.admitted.send(chunk.changed).ok();
            } else {
                self.waiting.push_back(chunk);
            }
        }
    }
}

impl Chunk {
    /// Whether there was room for all.
    fn admit(&mut self, lanes: &mut Lanes) -> bool {
        while let Some(row) = self.rows.front() {
            let key = row.raw_document_key().and_then(record::key);
            let changed = key.filter(|key| self.window.has_changed(key));
            match changed {
                Some(key) => self.changed.push(key),
                None if lanes.admit_row(row, &self.in_flight, self.ripe_at.is_none()) => {}
                None => return false,
            }
            self.rows.pop_front();
        }
        true
    }
}
