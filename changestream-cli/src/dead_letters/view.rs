use bson::{RawBinaryRef, RawBsonRef, spec::BinarySubtype};
use changestream_core::{DeadLetter, DeadLetterSummary, Json, Message, ReplayRequest};
use serde::{Serialize, Serializer};

use crate::output::time;

/// A letter as `list` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LetterView<'a> {
    id: &'a str,
    runtime: &'a str,
    handler: &'a str,
    sink: Option<&'a str>,
    event_id: &'a str,
    namespace: &'a str,
    operation: &'a str,
    kind: &'a str,
    attempts: u32,
    failed_at: String,
    replay: Option<ReplayView<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplayView<'a> {
    requested_at: String,
    requested_by: Option<&'a str>,
    taken_at: Option<String>,
    refused: Option<&'a str>,
}

/// A letter as `show` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WholeLetterView<'a> {
    #[serde(flatten)]
    letter: LetterView<'a>,
    error: &'a [String],
    event: Json<'a>,
    message: Option<MessageView<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageView<'a> {
    content_type: &'a str,
    key: Option<&'a str>,
    headers: &'a std::collections::BTreeMap<String, String>,
    payload: PayloadView<'a>,
}

/// Text as it is, else Extended JSON's `$binary`.
#[derive(Debug)]
struct PayloadView<'a>(&'a [u8]);

impl<'a> LetterView<'a> {
    pub(crate) fn of(letter: &'a DeadLetterSummary) -> Self {
        Self {
            id: &letter.id,
            runtime: &letter.runtime,
            handler: &letter.handler,
            sink: letter.sink.as_deref(),
            event_id: &letter.event_id,
            namespace: &letter.namespace,
            operation: &letter.operation,
            kind: &letter.kind,
            attempts: letter.attempts,
            failed_at: time(letter.failed_at),
            replay: letter.replay.as_ref().map(ReplayView::of),
        }
    }
}

impl<'a> ReplayView<'a> {
    fn of(replay: &'a ReplayRequest) -> Self {
        Self {
            requested_at: time(replay.requested_at),
            requested_by: replay.requested_by.as_deref(),
            taken_at: replay.taken_at.map(time),
            refused: replay.refused.as_deref(),
        }
    }
}

impl<'a> WholeLetterView<'a> {
    pub(crate) fn of(letter: &'a DeadLetter) -> Self {
        Self {
            letter: LetterView::of(letter.summary()),
            error: letter.error(),
            event: Json::relaxed(letter.change()),
            message: letter.message().map(MessageView::of),
        }
    }
}

impl<'a> MessageView<'a> {
    pub(crate) fn of(message: &'a Message) -> Self {
        Self {
            content_type: message.content_type(),
            key: message.get_key(),
            headers: message.headers(),
            payload: PayloadView(message.payload()),
        }
    }
}

impl Serialize for PayloadView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let bytes = RawBinaryRef {
                    subtype: BinarySubtype::Generic,
                    bytes: self.0,
                };
                Json::relaxed(RawBsonRef::Binary(bytes)).serialize(serializer)
            }
        }
    }
}
