use std::{fmt, sync::Arc, time::SystemTime};

use bson::{RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use bytes::Bytes;

use super::{
    ClusterTime, DocumentKey, EventId, Namespace, Operation, ResumeToken, UpdateDescription,
};
use crate::decode::{DecodeError, Header, Span};

/// The largest event that is stored whole: a document has 16 MB, and something is beside the event.
const MAX_STORED: usize = 15 << 20;

/// What is left out of an event that is too large.
const OMITTED: [&str; 3] = [
    "fullDocument",
    "fullDocumentBeforeChange",
    "updateDescription",
];

/// One change event as the server sent it: a shared, cheaply cloned view of its raw BSON.
///
/// Only the event's own fields are looked at; the documents within it are decoded when they are asked
/// for. `Debug` shows what happened where, never the documents.
#[derive(Clone)]
pub struct RawChange {
    /// What came with it.
    shared: Arc<Shared>,
    /// Its place there.
    index: usize,
}

struct Shared {
    bytes: Bytes,
    headers: Vec<Header>,
}

impl RawChange {
    /// An event from its BSON.
    ///
    /// # Errors
    ///
    /// When `bytes` is not a BSON document, lacks `_id` (the resume token) or `operationType`, or is a fragment of a split
    /// event (`splitEvent`).
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, DecodeError> {
        Self::decode(bytes.into(), false)
    }

    /// An event that the server had split, whole again.
    pub(crate) fn reassembled(bytes: impl Into<Bytes>) -> Result<Self, DecodeError> {
        Self::decode(bytes.into(), true)
    }

    fn decode(bytes: Bytes, was_split: bool) -> Result<Self, DecodeError> {
        let header = Header {
            was_split,
            ..Header::decode(&bytes, 0..bytes.len())?
        };
        let headers = vec![header];
        Ok(Self {
            shared: Arc::new(Shared { bytes, headers }),
            index: 0,
        })
    }

    /// The event with the document that it is of, or null.
    pub(crate) fn with_full_document(
        &self,
        document: Option<&RawDocument>,
    ) -> Result<Self, DecodeError> {
        let mut event = self.as_raw().to_owned();
        match document {
            Some(document) => event.append(cstr!("fullDocument"), document.to_owned()),
            None => event.append(cstr!("fullDocument"), RawBsonRef::Null),
        }
        Self::decode(event.into_bytes().into(), self.was_split())
    }

    /// The events that these are the headers of, which share one count of who holds `bytes` and them.
    pub(crate) fn all(bytes: &Bytes, headers: Vec<Header>) -> impl Iterator<Item = Self> {
        let indexes = 0..headers.len();
        let bytes = bytes.clone();
        let shared = Arc::new(Shared { bytes, headers });
        indexes.map(move |index| Self {
            shared: Arc::clone(&shared),
            index,
        })
    }

    fn header(&self) -> &Header {
        &self.shared.headers[self.index]
    }

    pub(crate) fn was_split(&self) -> bool {
        self.header().was_split
    }

    /// Whether the event came, or was stored, without its documents, being too large with them. Its field
    /// `omittedFields` says what is missing.
    pub fn is_header_only(&self) -> bool {
        self.header().is_header_only
    }

    /// The whole event.
    pub fn as_raw(&self) -> &RawDocument {
        RawDocument::from_bytes(self.bytes()).expect("checked when the event was made")
    }

    /// What happened.
    pub fn operation(&self) -> &Operation {
        &self.header().operation
    }

    /// The database of the change; empty where the event names none.
    pub fn database(&self) -> &str {
        self.str(self.header().database).unwrap_or_default()
    }

    /// The collection of the change; `None` for database-wide events.
    pub fn collection(&self) -> Option<&str> {
        self.str(self.header().collection)
    }

    /// The database and collection of the change.
    pub fn namespace(&self) -> Namespace {
        Namespace::new(self.database(), self.collection().map(str::to_owned))
    }

    /// The name of the database as it came: to be compared, it need not be looked at whether it is text.
    pub(crate) fn raw_database(&self) -> &[u8] {
        self.slice(self.header().database).unwrap_or_default()
    }

    /// The same of the collection.
    pub(crate) fn raw_collection(&self) -> Option<&[u8]> {
        self.slice(self.header().collection)
    }

    /// The event's resume token, as the server sent it.
    pub fn raw_token(&self) -> &RawDocument {
        self.document(Some(self.header().token))
            .expect("checked when the event was made")
    }

    /// The event's resume token.
    pub fn token(&self) -> ResumeToken {
        ResumeToken::from(self.raw_token())
    }

    /// The event's identity.
    pub fn event_id(&self) -> EventId {
        EventId::of_token(self.raw_token())
    }

    /// When the change was written, on the server's logical clock.
    pub fn cluster_time(&self) -> Option<ClusterTime> {
        self.header().cluster_time.map(ClusterTime)
    }

    /// When the change was written, by the server's wall clock; from the cluster time, to the second,
    /// on servers older than 6.0, which do not send it.
    pub fn wall_time(&self) -> Option<SystemTime> {
        let wall_time = self.header().wall_time.or_else(|| {
            let time = self.header().cluster_time?;
            Some(bson::DateTime::from_millis(i64::from(time.time) * 1000))
        });
        wall_time.map(bson::DateTime::to_system_time)
    }

    /// The key of the changed document, as the server sent it.
    pub fn raw_document_key(&self) -> Option<&RawDocument> {
        self.document(self.header().document_key)
    }

    /// The key of the changed document.
    pub fn document_key(&self) -> Option<DocumentKey> {
        self.raw_document_key()
            .map(|key| DocumentKey::new(key.to_owned()))
    }

    /// What an update changed, as the server sent it.
    pub fn raw_update_description(&self) -> Option<&RawDocument> {
        self.document(self.header().update_description)
    }

    /// What an update changed.
    pub fn update_description(&self) -> Option<UpdateDescription> {
        self.raw_update_description()
            .map(|description| UpdateDescription::new(description.to_owned()))
    }

    /// The document after the change, where the event carries it.
    pub fn full_document(&self) -> Option<&RawDocument> {
        self.document(self.header().full_document)
    }

    /// The document before the change, where the event carries it.
    pub fn pre_image(&self) -> Option<&RawDocument> {
        self.document(self.header().pre_image)
    }

    /// The event's size in bytes.
    pub fn size(&self) -> usize {
        self.bytes().len()
    }

    /// The event as it can be stored within a document: without its own documents where it is too large.
    pub(crate) fn to_document_buf(&self) -> RawDocumentBuf {
        if self.size() <= MAX_STORED {
            return self.as_raw().to_owned();
        }
        let mut header = RawDocumentBuf::new();
        let mut omitted = RawArrayBuf::new();
        for (key, value) in self.as_raw().into_iter().flatten() {
            match OMITTED.contains(&key.as_str()) {
                true => omitted.push(key.as_str()),
                false => header.append(key, value),
            }
        }
        header.append(cstr!("omittedFields"), omitted);
        header
    }

    fn bytes(&self) -> &[u8] {
        self.header().event.slice(&self.shared.bytes)
    }

    fn document(&self, span: Option<Span>) -> Option<&RawDocument> {
        RawDocument::from_bytes(self.slice(span)?).ok()
    }

    fn str(&self, span: Option<Span>) -> Option<&str> {
        std::str::from_utf8(self.slice(span)?).ok()
    }

    fn slice(&self, span: Option<Span>) -> Option<&[u8]> {
        Some(span?.slice(&self.shared.bytes))
    }
}

impl fmt::Debug for RawChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawChange")
            .field("operation", self.operation())
            .field("namespace", &self.namespace().to_string())
            .field("event_id", &self.event_id())
            .finish_non_exhaustive()
    }
}
