use bson::RawDocument;
use bytes::Bytes;
use mongodb::raw_batch_cursor::RawBatch;

use super::Mark;
use crate::{
    checkpoint::TokenKind,
    decode::DecodeError,
    event::{RawChange, ResumeToken},
};

/// One server reply: its events, which share its bytes, and the token after it.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<RawChange>,
    post_batch_token: Option<ResumeToken>,
}

impl Batch {
    pub(crate) fn decode(reply: RawBatch) -> Result<Self, DecodeError> {
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
            events.push(RawChange::new(bytes.slice_ref(document.as_bytes()))?);
        }
        Ok(Self {
            events,
            post_batch_token: cursor
                .get_document("postBatchResumeToken")
                .ok()
                .map(ResumeToken::from),
        })
    }
}

impl Batch {
    /// Where the stream goes on after this batch (drivers' specification *Change Streams*, "Updating the
    /// Cached Resume Token").
    ///
    /// It may be the place of an `invalidate`, which a filter may have hidden and the empty batches after it
    /// repeat. There only `startAfter` goes on, which takes any other token as well.
    pub(crate) fn end(&self) -> Option<Mark> {
        let token = match &self.post_batch_token {
            Some(token) => token.clone(),
            None => self.events.last()?.token(),
        };
        Some(Mark::Token(token, TokenKind::StartAfter))
    }
}

/// A server reply as bytes, so that its events can be ranges of it.
struct Reply(RawBatch);

impl AsRef<[u8]> for Reply {
    fn as_ref(&self) -> &[u8] {
        self.0.as_raw_document().as_bytes()
    }
}
