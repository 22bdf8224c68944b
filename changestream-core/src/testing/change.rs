//! Builders of change events.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use bson::{Bson, DateTime, Document, Timestamp, doc};
use bytes::Bytes;
use serde::Serialize;

use crate::{
    decode::DecodeError,
    event::{Operation, RawChange},
    source::{Assembly, Batch},
};

/// The database of built events, and of a [`TestRuntime`](super::TestRuntime).
pub const DATABASE: &str = "test";

/// The events of a reply that a server gave to `aggregate` or `getMore`, as the stream reads them.
///
/// # Errors
///
/// When `reply` is not BSON, or has no `cursor` with a batch of events.
pub fn of_reply(reply: impl Into<Bytes>) -> Result<Vec<RawChange>, DecodeError> {
    Ok(Batch::decode(reply.into(), &mut Assembly::default())?.events)
}

/// An insert into `collection`.
pub fn insert(collection: &str) -> ChangeBuilder {
    ChangeBuilder::new(Operation::Insert, collection)
}

/// An update of a document of `collection`.
pub fn update(collection: &str) -> ChangeBuilder {
    ChangeBuilder::new(Operation::Update, collection)
}

/// A replacement of a document of `collection`.
pub fn replace(collection: &str) -> ChangeBuilder {
    ChangeBuilder::new(Operation::Replace, collection)
}

/// A deletion of a document of `collection`.
pub fn delete(collection: &str) -> ChangeBuilder {
    ChangeBuilder::new(Operation::Delete, collection)
}

/// A document of `collection` in a snapshot.
pub fn snapshot(collection: &str) -> ChangeBuilder {
    ChangeBuilder::new(Operation::Snapshot, collection)
}

/// A change event being built. Each has a token of its own, and so an event id of its own.
#[derive(Clone, Debug)]
#[must_use]
pub struct ChangeBuilder {
    operation: Operation,
    database: String,
    collection: String,
    document_key: Document,
    updated_fields: Document,
    removed_fields: Vec<String>,
    truncated_arrays: Vec<Document>,
    full_document: Option<Document>,
    pre_image: Option<Document>,
    wall_time: SystemTime,
}

impl ChangeBuilder {
    /// An event of `operation` on `collection` of the database [`DATABASE`], now, of the document with
    /// `_id` 1.
    pub fn new(operation: Operation, collection: &str) -> Self {
        Self {
            operation,
            database: DATABASE.to_owned(),
            collection: collection.to_owned(),
            document_key: doc! { "_id": 1 },
            updated_fields: Document::new(),
            removed_fields: Vec::new(),
            truncated_arrays: Vec::new(),
            full_document: None,
            pre_image: None,
            wall_time: SystemTime::now(),
        }
    }

    /// Sets the database.
    pub fn database(mut self, database: &str) -> Self {
        self.database = database.to_owned();
        self
    }

    /// Sets the document's `_id`.
    pub fn id(mut self, id: impl Into<Bson>) -> Self {
        self.document_key.insert("_id", id);
        self
    }

    /// Says that the update set the field at `path`.
    pub fn set(mut self, path: &str, value: impl Into<Bson>) -> Self {
        self.updated_fields.insert(path, value);
        self
    }

    /// Says that the update removed the field at `path`.
    pub fn unset(mut self, path: &str) -> Self {
        self.removed_fields.push(path.to_owned());
        self
    }

    /// Says that the update shortened the array at `path` to `size` elements.
    pub fn truncate(mut self, path: &str, size: i32) -> Self {
        self.truncated_arrays
            .push(doc! { "field": path, "newSize": size });
        self
    }

    /// Adds the document after the change.
    ///
    /// # Panics
    ///
    /// When `document` does not serialize as a BSON document.
    pub fn full_document<T: Serialize>(mut self, document: &T) -> Self {
        self.full_document = Some(serialize(document));
        self
    }

    /// Adds the document before the change.
    ///
    /// # Panics
    ///
    /// When `document` does not serialize as a BSON document.
    pub fn pre_image<T: Serialize>(mut self, document: &T) -> Self {
        self.pre_image = Some(serialize(document));
        self
    }

    /// Sets when the change was written.
    pub fn wall_time(mut self, wall_time: SystemTime) -> Self {
        self.wall_time = wall_time;
        self
    }

    /// The event. Built again, it is another event; a clone of it is the same one again.
    pub fn build(self) -> RawChange {
        let wall_time = DateTime::from_system_time(self.wall_time);
        let cluster_time = Timestamp {
            time: u32::try_from(wall_time.timestamp_millis() / 1000).unwrap_or_default(),
            increment: next(),
        };
        let token = format!("82{:08X}{:08X}", cluster_time.time, cluster_time.increment);
        let mut event = doc! {
            "_id": { "_data": token },
            "operationType": self.operation.as_str(),
            "clusterTime": cluster_time,
            "wallTime": wall_time,
            "ns": { "db": self.database, "coll": self.collection },
            "documentKey": self.document_key,
        };
        if let Some(document) = self.full_document {
            event.insert("fullDocument", document);
        }
        if let Some(document) = self.pre_image {
            event.insert("fullDocumentBeforeChange", document);
        }
        if self.operation == Operation::Update {
            let description = doc! {
                "updatedFields": self.updated_fields,
                "removedFields": self.removed_fields,
                "truncatedArrays": self.truncated_arrays,
            };
            event.insert("updateDescription", description);
        }
        let bytes = bson::serialize_to_vec(&event).expect("a document serializes");
        RawChange::new(bytes).expect("the event has a token and an operation")
    }
}

impl From<ChangeBuilder> for RawChange {
    fn from(builder: ChangeBuilder) -> Self {
        builder.build()
    }
}

fn next() -> u32 {
    static COUNTER: AtomicU32 = AtomicU32::new(1);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

fn serialize<T: Serialize>(document: &T) -> Document {
    bson::serialize_to_document(document).expect("the value serializes as a BSON document")
}
