mod batch;
mod command;
mod error;
mod json;
mod payload;
mod statement;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bson::RawDocumentBuf;
use changestream_core::{Delivery, Error, HandlerError, SinkSpec, Template};
use mongodb::Collection;
use tower::Service;

/// Writes each message into a collection, and counts it as delivered when the majority of the replica set has it.
///
/// A message is a JSON object, and becomes BSON as Extended JSON says: what a handler returns with dates, ids and decimals in it is
/// stored with them. JSON does not tell integers apart: those of 32 bits are stored as such. Anything else than a JSON object is
/// rejected; [`SinkSpec::map`] makes one of it.
///
/// | | what a message does | its `_id` where it has none |
/// | --- | --- | --- |
/// | [`insert`](Self::insert) | is inserted: a log | [`Delivery::id`] |
/// | [`upsert`](Self::upsert) | takes the place of the document: a view | that of the event's document, of its BSON type |
/// | [`merge`](Self::merge) | sets its fields in the document | that of the event's document, of its BSON type |
///
/// An [`id`](Self::id) template goes before both. A null `_id` is none.
///
/// With `upsert` and `merge`, a message about a delete event deletes the document, unless the sink
/// [keeps what was deleted](Self::keep_deleted), and so does an empty message about any event. What else such a message says counts
/// for nothing but its `_id`. A handler that returns nothing for deletes sends no message, and so nothing is deleted.
///
/// Messages that come while others are under way go into one command, up to [`batch`](Self::batch) of them. What the server
/// refuses of these is rejected alone. Every write has majority write concern, whatever that of the collection; its `wtimeout` is
/// kept. The client is the user's: its TLS, login and pool.
///
/// As any sink it has 10 s per attempt and three retries from 1 s, which [`SinkSpec`] changes. Errors name the collection and the
/// server's code, never a document or a key.
///
/// A sink must not write where a handler that sends to it is watching: what it writes would come to it.
///
/// # Example
///
/// ```
/// use changestream_core::SinkSpec;
/// use changestream_sinks::MongoSink;
/// use mongodb::bson::Document;
///
/// fn sinks(database: &mongodb::Database) -> Result<[SinkSpec; 2], changestream_core::Error> {
///     let view = MongoSink::upsert(&database.collection::<Document>("order_view")).versioned()?;
///     let log = MongoSink::insert(&database.collection::<Document>("order_log"));
///     Ok([view.into(), log.into()])
/// }
/// ```
#[derive(Clone)]
pub struct MongoSink {
    target: Target,
    batch: usize,
}

#[derive(Clone)]
struct Target {
    collection: Collection<RawDocumentBuf>,
    /// What errors say.
    namespace: String,
    mode: Mode,
    id: Option<Template>,
    keeps_deleted: bool,
    is_versioned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Insert,
    Upsert,
    Merge,
}

impl MongoSink {
    /// A sink that inserts each message, also those about delete events.
    ///
    /// A delivery that comes again meets its own document, and counts as delivered; a document of another delivery with the same
    /// `_id` makes it a rejection. To tell, a message that has an `_id` of its own, or gets one of the template, is stored with
    /// `_changestream: {delivery: ..}`, and the user needs the right to find.
    pub fn insert<T: Send + Sync>(collection: &Collection<T>) -> Self {
        Self::new(collection, Mode::Insert)
    }

    /// A sink whose messages take the place of documents, each of the one with its `_id`.
    pub fn upsert<T: Send + Sync>(collection: &Collection<T>) -> Self {
        Self::new(collection, Mode::Upsert)
    }

    /// A sink whose messages set their fields in documents, each in the one with its `_id`, which it makes where there is none.
    ///
    /// Other fields stay as they are, also those that an earlier message set. A message of which a field's name has a dot is
    /// rejected, for it would set a part of another field.
    pub fn merge<T: Send + Sync>(collection: &Collection<T>) -> Self {
        Self::new(collection, Mode::Merge)
    }

    fn new<T: Send + Sync>(collection: &Collection<T>, mode: Mode) -> Self {
        Self {
            target: Target {
                namespace: collection.namespace().to_string(),
                collection: collection.clone_with_type(),
                mode,
                id: None,
                keeps_deleted: false,
                is_versioned: false,
            },
            batch: 500,
        }
    }

    /// Makes every `_id` a text of this [`Template`], as `customer:{full_document.customer}`, in place of one that the message has.
    ///
    /// # Errors
    ///
    /// A configuration error when `template` is none.
    pub fn id(mut self, template: impl Into<String>) -> Result<Self, Error> {
        self.target.id = Some(Template::new(template)?);
        Ok(self)
    }

    /// Writes messages about delete events like any others: to mark a document as deleted. An empty message deletes all the same.
    ///
    /// A sink that inserts does so anyway.
    #[must_use]
    pub fn keep_deleted(mut self) -> Self {
        self.target.keeps_deleted = true;
        self
    }

    /// Lets no message take the place of one of a later event: as after a crash, in the replay of a dead letter, or from a process that
    /// was replaced and does not know it. It counts as delivered, and nothing is written.
    ///
    /// Documents are stored with `_changestream: {position: ..}`, the event's place in the stream, which holds its document key. A
    /// document without it is of no event, and is replaced. One that was deleted has no place any more: an earlier message makes it
    /// anew. Positions of different deployments cannot be compared, nor those in a collection whose collation has `numericOrdering`.
    ///
    /// # Errors
    ///
    /// A configuration error for a sink that inserts, which changes nothing, and for one that merges: of two messages that set
    /// different fields the earlier one may come last, and it must not be lost.
    pub fn versioned(mut self) -> Result<Self, Error> {
        if self.target.mode != Mode::Upsert {
            return Err(Error::configuration(format!(
                "the sink to `{}` is versioned and does not replace documents; make it with `MongoSink::upsert`, or leave \
                 `.versioned()` out",
                self.target.namespace
            )));
        }
        self.target.is_versioned = true;
        Ok(self)
    }

    /// The most messages in one command, 500 by default. A command also ends at 16 MB.
    ///
    /// # Errors
    ///
    /// A configuration error when it is 0.
    pub fn batch(mut self, max: usize) -> Result<Self, Error> {
        if max == 0 {
            return Err(Error::configuration(format!(
                "the sink to `{}` has batches of 0 messages; let there be 1 at least",
                self.target.namespace
            )));
        }
        self.batch = max;
        Ok(self)
    }
}

impl From<MongoSink> for SinkSpec {
    fn from(sink: MongoSink) -> Self {
        let id = sink.target.id.clone();
        let writer = Writer(Arc::new(sink.target));
        Self::batched(sink.batch, writer).renders(&id)
    }
}

impl fmt::Debug for MongoSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoSink")
            .field("collection", &self.target.namespace)
            .field("mode", &self.target.mode)
            .field("id", &self.target.id)
            .field("keeps_deleted", &self.target.keeps_deleted)
            .field("is_versioned", &self.target.is_versioned)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Writer(Arc<Target>);

impl Service<Vec<Delivery>> for Writer {
    type Response = ();
    type Error = HandlerError;
    type Future = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, deliveries: Vec<Delivery>) -> Self::Future {
        let target = Arc::clone(&self.0);
        Box::pin(async move { target.write(&deliveries).await })
    }
}
