use std::{fmt, time::SystemTime};

use bson::{DateTime, RawDocument, RawDocumentBuf};
use serde::{Deserialize, Serialize};

use crate::{
    event::{RawChange, ResumeToken},
    handler::HandlerError,
    message::Message,
};

/// An event that a handler, or a message that a sink, failed on for good.
///
/// `Debug` shows neither the event nor the message.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    #[serde(flatten)]
    summary: DeadLetterSummary,
    change: RawDocumentBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
}

/// A dead letter without its event and message: what a list of them holds.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeadLetterSummary {
    /// The letter's identity: runtime, handler and event id, and for a delivery sink and message.
    #[serde(rename = "_id")]
    pub id: String,
    /// The runtime that wrote it.
    pub runtime: String,
    /// The handler whose event it is.
    pub handler: String,
    /// The sink that did not take the message; `None` when the handler failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The event's [`EventId`](crate::EventId), as text.
    pub event_id: String,
    /// The database and collection of the change.
    pub namespace: String,
    /// What happened there.
    pub operation: String,
    /// What kind of failure it was: `failed`, `rejection`, `timeout` or `panic`.
    pub kind: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// The error's messages, outermost first. They may quote the document.
    pub error: Vec<String>,
    /// When the last attempt failed, by the clock of the runtime's host.
    pub failed_at: DateTime,
    /// The event's resume token, which holds the document's key.
    pub token: ResumeToken,
    /// The replay that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayRequest>,
}

/// How a replay stands that was asked for. It goes when the letter does, or is written again because the
/// replay failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReplayRequest {
    /// When, by the store's clock.
    pub requested_at: DateTime,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// When a runtime began with it, by the store's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<DateTime>,
    /// Why the runtime did not do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl DeadLetterSummary {
    /// Whether a replay is asked for that was neither carried out nor refused.
    pub fn awaits_replay(&self) -> bool {
        let replay = self.replay.as_ref();
        replay.is_some_and(|replay| replay.refused.is_none())
    }

    /// What orders letters: the event's place in the stream, then the id.
    ///
    /// A token's `_data` is the server's `KeyString`, in hexadecimal digits that sort as the events do.
    pub(crate) fn place(&self) -> (&str, &str) {
        let data = self.token.as_raw().get_str("_data");
        (data.unwrap_or_default(), &self.id)
    }
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
            summary: DeadLetterSummary {
                id: format!("{runtime}/{handler}/{event_id}"),
                runtime: runtime.to_owned(),
                handler: handler.to_owned(),
                sink: None,
                event_id: event_id.to_string(),
                namespace: change.namespace().to_string(),
                operation: change.operation().to_string(),
                kind: error.kind().as_str().to_owned(),
                attempts: error.attempts(),
                error: error.chain(),
                failed_at: DateTime::from_system_time(SystemTime::now()),
                token: change.token(),
                replay: None,
            },
            change: change.to_document_buf(),
            message: None,
        }
    }

    pub(crate) fn of_delivery(mut self, sink: &str, index: usize, message: &Message) -> Self {
        self.summary.id = format!("{}/{sink}/{index}", self.summary.id);
        self.summary.sink = Some(sink.to_owned());
        self.message = Some(message.clone());
        self
    }

    /// The place of a delivery's message among those that the handler returned.
    pub(crate) fn index(&self) -> Option<usize> {
        let (_, index) = self.summary.id.rsplit_once('/')?;
        index.parse().ok()
    }

    /// The letter without its event and message.
    pub fn summary(&self) -> &DeadLetterSummary {
        &self.summary
    }

    pub(super) fn summary_mut(&mut self) -> &mut DeadLetterSummary {
        &mut self.summary
    }

    /// The letter's identity: runtime, handler and event id, and for a delivery sink and message.
    pub fn id(&self) -> &str {
        &self.summary.id
    }

    /// The runtime that wrote it.
    pub fn runtime(&self) -> &str {
        &self.summary.runtime
    }

    /// The handler whose event it is.
    pub fn handler(&self) -> &str {
        &self.summary.handler
    }

    /// The sink that did not take the message; `None` when the handler failed.
    pub fn sink(&self) -> Option<&str> {
        self.summary.sink.as_deref()
    }

    /// The event's [`EventId`](crate::EventId), as text.
    pub fn event_id(&self) -> &str {
        &self.summary.event_id
    }

    /// What kind of failure it was: `failed`, `rejection`, `timeout` or `panic`.
    pub fn kind(&self) -> &str {
        &self.summary.kind
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u32 {
        self.summary.attempts
    }

    /// The error's messages, outermost first.
    pub fn error(&self) -> &[String] {
        &self.summary.error
    }

    /// The event, as the server sent it.
    pub fn change(&self) -> &RawDocument {
        &self.change
    }

    /// The event's resume token.
    pub fn token(&self) -> &RawDocument {
        self.summary.token.as_raw()
    }

    /// The message that the sink did not take.
    pub fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("DeadLetter", &self.summary, f)
    }
}

/// Without the error, which may quote the document.
impl fmt::Debug for DeadLetterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("DeadLetterSummary", self, f)
    }
}

fn debug(name: &str, letter: &DeadLetterSummary, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("id", &letter.id)
        .field("kind", &letter.kind)
        .field("attempts", &letter.attempts)
        .finish_non_exhaustive()
}
