use std::{future::pending, sync::Arc};

use bson::{RawDocument, RawDocumentBuf, Timestamp, cstr, rawdoc};
use tokio::sync::{mpsc, oneshot};

use super::{Chunk, Rows, SnapshotRange, Window, Windows, record};
use crate::{
    error::{Error, Kind},
    event::RawChange,
    source::{Page, Part, Scan},
};

/// After so many reads that the stream was faster than, documents go to the lanes as soon as they are read.
///
/// They may be ahead of the stream then: the handler sees their newest state, and then the events that led to it.
const PATIENT_READS: u32 = 8;

/// Reads a collection, chunk by chunk.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) scan: Scan,
    /// Of the snapshot.
    pub(crate) id: String,
    pub(crate) windows: Arc<Windows>,
    pub(crate) chunks: mpsc::Sender<Chunk>,
    /// The most documents in a chunk.
    pub(crate) limit: usize,
}

/// What is done.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) documents: usize,
    /// The last of them.
    pub(crate) last: Option<RawDocumentBuf>,
    pub(crate) is_last: bool,
}

impl Reader {
    /// Reads the next chunk of `range`, and waits until the handlers are done with it.
    pub(crate) async fn advance(&self, range: &SnapshotRange) -> Result<Step, Error> {
        let part = Part::Range {
            from: range.from.as_deref(),
            after: range.after.as_deref(),
            to: range.to.as_deref(),
        };
        let read = self.read(&part, self.limit).await?;
        let step = Step {
            documents: read.page.documents.len(),
            last: read
                .page
                .documents
                .last()
                .and_then(|last| record::key(last)),
            is_last: read.page.is_last,
        };
        let in_flight = Rows::default();
        let mut reads = 1;
        let mut changed = self.hand_over(read, reads, &in_flight).await?;
        while !changed.is_empty() {
            let read = self.read(&Part::Keys(&changed), changed.len()).await?;
            // What is not there any more was deleted; a reply that is full leaves the rest for later.
            let left = match read.page.is_last || read.page.documents.len() == changed.len() {
                true => Vec::new(),
                false => self.not_in(&read.page, &changed),
            };
            reads += 1;
            changed = self.hand_over(read, reads, &in_flight).await?;
            changed.extend(left);
        }
        in_flight.all_done().await;
        Ok(step)
    }

    async fn read(&self, part: &Part<'_>, limit: usize) -> Result<Read, Error> {
        let window = self.windows.open(self.scan.namespace());
        let since = window.begin(self.scan.now().await?);
        let page = self.scan.read(part, limit, since).await?;
        Ok(Read {
            window,
            since,
            page,
        })
    }

    /// Waits until the lanes have what was read, this often by now; the keys of those documents that they have not, for they have
    /// changed.
    async fn hand_over(
        &self,
        read: Read,
        reads: u32,
        in_flight: &Rows,
    ) -> Result<Vec<RawDocumentBuf>, Error> {
        let documents = read.page.documents.iter();
        let rows = documents.map(|document| self.row(document, read.since));
        let (admitted, changed) = oneshot::channel();
        let chunk = Chunk {
            rows: rows.collect::<Result<_, _>>()?,
            window: read.window,
            is_again: reads > 1,
            ripe_at: (reads <= PATIENT_READS).then_some(read.page.read_at),
            in_flight: in_flight.clone(),
            changed: Vec::new(),
            admitted,
        };
        drop(read.page);
        match self.chunks.send(chunk).await {
            Ok(()) => match changed.await {
                Ok(changed) => Ok(changed),
                // The lanes take no more; whoever closed them ends this, too.
                Err(_closed) => pending().await,
            },
            Err(_closed) => pending().await,
        }
    }

    fn row(&self, document: &RawDocument, since: Timestamp) -> Result<RawChange, Error> {
        let namespace = self.scan.namespace();
        let unreadable = || {
            let message = format!("a document of `{namespace}` is none");
            Error::new(Kind::Snapshot, message)
        };
        let key = record::key(document).ok_or_else(unreadable)?;
        let id = key.get("_id").ok().flatten().ok_or_else(unreadable)?;
        let mut event = rawdoc! {
            "_id": { "snapshot": self.id.as_str(), "ns": namespace.to_string(), "_id": id },
            "operationType": "snapshot",
            "clusterTime": since,
            "ns": { "db": namespace.database(), "coll": namespace.collection().unwrap_or_default() },
        };
        event.append(cstr!("documentKey"), key.as_ref());
        event.append(cstr!("fullDocument"), document);
        RawChange::new(event.into_bytes()).map_err(|error| unreadable().caused_by(error))
    }

    fn not_in(&self, page: &Page, keys: &[RawDocumentBuf]) -> Vec<RawDocumentBuf> {
        let read: Vec<_> = page
            .documents
            .iter()
            .filter_map(|row| record::key(row))
            .collect();
        keys.iter()
            .filter(|key| !read.contains(key))
            .cloned()
            .collect()
    }
}

/// What was read, and the window since.
struct Read {
    window: Window,
    since: Timestamp,
    page: Page,
}
