use bson::RawDocument;
use bytes::Bytes;
use mongodb::raw_batch_cursor::RawBatch;

use super::{
    Mark,
    fragment::{Added, Assembly},
};
use crate::{
    checkpoint::TokenKind,
    decode::DecodeError,
    event::{RawChange, ResumeToken},
};

/// The events of one server reply, which share its bytes, and where the stream goes on after them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<RawChange>,
    end: Option<Mark>,
}

impl Batch {
    /// A batch of no server.
    #[cfg(test)]
    pub(crate) fn scripted(events: Vec<RawChange>, end: Option<Mark>) -> Self {
        Self { events, end }
    }

    /// Events of no server.
    #[cfg(feature = "testing")]
    pub(crate) fn of_no_server(events: Vec<RawChange>) -> Self {
        Self {
            end: end(&events, None, &mut Assembly::default()),
            events,
        }
    }

    pub(crate) fn decode(reply: RawBatch, assembly: &mut Assembly) -> Result<Self, DecodeError> {
        let bytes = Bytes::from_owner(Reply(reply));
        let reply = RawDocument::from_bytes(&bytes).map_err(DecodeError::Malformed)?;
        let cursor = reply.get_document("cursor");
        let cursor = cursor.map_err(|_| DecodeError::Missing("cursor"))?;
        let documents = cursor
            .get_array("nextBatch")
            .or_else(|_| cursor.get_array("firstBatch"))
            .map_err(|_| DecodeError::Missing("cursor.nextBatch"))?;
        let mut events = Vec::new();
        for document in documents {
            let document = document.map_err(DecodeError::Malformed)?;
            let document = document.as_document();
            let document = document.ok_or(DecodeError::Missing("cursor.nextBatch"))?;
            match assembly.add(document)? {
                Added::NoFragment => {
                    events.push(RawChange::new(bytes.slice_ref(document.as_bytes()))?);
                }
                Added::Fragment => {}
                Added::Whole(event) => events.push(event),
            }
        }
        let post_batch_token = cursor.get_document("postBatchResumeToken");
        let post_batch_token = post_batch_token.ok().map(ResumeToken::from);
        Ok(Self {
            end: end(&events, post_batch_token, assembly),
            events,
        })
    }

    /// Where the stream goes on after this batch; `None` where it has not moved.
    pub(crate) fn end(&self) -> Option<Mark> {
        self.end.clone()
    }
}

/// By the drivers' specification *Change Streams*, "Updating the Cached Resume Token", but never in the middle
/// of a split event: that would have to be told from its rest alone.
///
/// The place after a batch may be that of an `invalidate`, which a filter may have hidden and the empty batches
/// after it repeat. There only `startAfter` goes on, which takes any other token as well.
fn end(
    events: &[RawChange],
    post_batch_token: Option<ResumeToken>,
    assembly: &mut Assembly,
) -> Option<Mark> {
    if assembly.is_unfinished() {
        // The place of the last event, and not the event once more.
        let (token, kind) = Mark::Event(events.last()?.clone()).token();
        return Some(Mark::Token(token, kind));
    }
    let token = post_batch_token.or_else(|| Some(events.last()?.token()))?;
    if assembly.split_token.as_ref() == Some(&token) {
        return Some(Mark::Token(token, TokenKind::SplitEvent));
    }
    assembly.split_token = None;
    Some(Mark::Token(token, TokenKind::StartAfter))
}

/// A server reply as bytes, so that its events can be ranges of it.
struct Reply(RawBatch);

impl AsRef<[u8]> for Reply {
    fn as_ref(&self) -> &[u8] {
        self.0.as_raw_document().as_bytes()
    }
}
