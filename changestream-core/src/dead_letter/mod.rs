//! Dead letters: what failed for good, kept whole.

mod memory;
mod mongodb;

pub use memory::MemoryDeadLetters;
pub use mongodb::MongoDeadLetters;

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use bson::{RawDocument, RawDocumentBuf};
use serde::Serialize;

use crate::{error::StoreError, event::RawChange, handler::HandlerError, message::Message};

/// Where dead letters are written.
#[async_trait]
pub trait DeadLetterStore: fmt::Debug + Send + Sync + 'static {
    /// Writes a dead letter; done when it is durable. Writing the same letter again, by its
    /// [`id`](DeadLetter::id), replaces it: events come again after a crash.
    ///
    /// # Errors
    ///
    /// When it cannot be written. It is tried again; the event waits.
    async fn write(&self, letter: &DeadLetter) -> Result<(), StoreError>;
}

/// An event that a handler, or a message that a sink, failed on for good.
///
/// `Debug` shows neither the event nor the message.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    #[serde(rename = "_id")]
    id: String,
    runtime: String,
    handler: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<String>,
    event_id: String,
    namespace: String,
    operation: String,
    kind: &'static str,
    attempts: u32,
    error: Vec<String>,
    failed_at: bson::DateTime,
    token: RawDocumentBuf,
    change: RawDocumentBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
}

impl DeadLetter {
    pub(crate) fn new(
        runtime: &str,
        handler: &str,
        change: &RawChange,
        error: &HandlerError,
    ) -> Self {
        let event_id = change.event_id();
        Self {
            id: format!("{runtime}/{handler}/{event_id}"),
            runtime: runtime.to_owned(),
            handler: handler.to_owned(),
            sink: None,
            event_id: event_id.to_string(),
            namespace: change.namespace().to_string(),
            operation: change.operation().to_string(),
            kind: error.kind().as_str(),
            attempts: error.attempts(),
            error: error.chain(),
            failed_at: bson::DateTime::from_system_time(SystemTime::now()),
            token: change.raw_token().to_owned(),
            change: change.to_document_buf(),
            message: None,
        }
    }

    pub(crate) fn of_delivery(mut self, sink: &str, index: usize, message: &Message) -> Self {
        self.id = format!("{}/{sink}/{index}", self.id);
        self.sink = Some(sink.to_owned());
        self.message = Some(message.clone());
        self
    }

    /// The letter's identity: runtime, handler and event id, and for a delivery sink and message.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The runtime that wrote it.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The handler whose event it is.
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// The sink that did not take the message; `None` when the handler failed.
    pub fn sink(&self) -> Option<&str> {
        self.sink.as_deref()
    }

    /// The event's [`EventId`](crate::EventId), as text.
    pub fn event_id(&self) -> &str {
        &self.event_id
    }

    /// What kind of failure it was: `failed`, `rejection`, `oversize`, `timeout` or `panic`.
    pub fn kind(&self) -> &str {
        self.kind
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The error's messages, outermost first.
    pub fn error(&self) -> &[String] {
        &self.error
    }

    /// The event, as the server sent it; without its documents where it is too large to be stored whole, and then
    /// `omittedFields` in it says what is missing.
    pub fn change(&self) -> &RawDocument {
        &self.change
    }

    /// The event's resume token.
    pub fn token(&self) -> &RawDocument {
        &self.token
    }

    /// The message that the sink did not take.
    pub fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
