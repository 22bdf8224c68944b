use std::{mem, ops::Range};

use bson::RawDocument;
use bytes::Bytes;
use mongodb::raw_batch_cursor::RawBatch;
use tokio::sync::OwnedSemaphorePermit;

use super::{Mark, fragment::Assembly, prefetch::Received};
use crate::{
    bson_walk::{ARRAY, DOCUMENT, Fields},
    checkpoint::TokenKind,
    decode::{DecodeError, Found, Header},
    event::{RawChange, ResumeToken},
};

/// How many events of a reply are counted together. Lanes are done with some while others are brought to them: with one count for all,
/// processors would take it from each other at every event.
const COUNTED_TOGETHER: usize = 64;

/// The events of one server reply, which share its bytes, and where the stream goes on after them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<RawChange>,
    end: Option<Mark>,
    /// What it takes of the room for batches until it is dropped; of no server, it takes none.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Batch {
    /// A batch of no server.
    #[cfg(test)]
    pub(crate) fn scripted(events: Vec<RawChange>, end: Option<Mark>) -> Self {
        Self {
            events,
            end,
            room: None,
        }
    }

    /// Events of no server.
    #[cfg(feature = "testing")]
    pub(crate) fn of_no_server(events: Vec<RawChange>) -> Self {
        Self {
            end: end(&events, None, &mut Assembly::default()),
            events,
            room: None,
        }
    }

    pub(super) fn of_reply(
        Received { reply, room }: Received,
        assembly: &mut Assembly,
    ) -> Result<Self, DecodeError> {
        let batch = Self::decode(Bytes::from_owner(Reply(reply)), assembly)?;
        Ok(Self {
            room: Some(room),
            ..batch
        })
    }

    /// A batch out of the bytes of a reply.
    pub(crate) fn decode(bytes: Bytes, assembly: &mut Assembly) -> Result<Self, DecodeError> {
        let Cursor {
            documents,
            post_batch_token,
        } = Cursor::find(&bytes)?;
        let (mut events, mut headers) = (Vec::new(), Vec::new());
        for document in Fields::within(&bytes, documents)? {
            let document = document?;
            if document.element_type != DOCUMENT {
                return Err(DecodeError::Missing("cursor.nextBatch"));
            }
            match Header::find(&bytes, document.value.clone())? {
                Found::Event(_) if assembly.is_unfinished() => return Err(DecodeError::Fragment),
                Found::Event(header) => {
                    headers.push(header);
                    if headers.len() == COUNTED_TOGETHER {
                        let next = Vec::with_capacity(COUNTED_TOGETHER);
                        events.extend(RawChange::all(&bytes, mem::replace(&mut headers, next)));
                    }
                }
                Found::Fragment => {
                    let fragment = RawDocument::from_bytes(&bytes[document.value]);
                    let fragment = fragment.map_err(DecodeError::Malformed)?;
                    if let Some(event) = assembly.add(fragment)? {
                        events.extend(RawChange::all(&bytes, mem::take(&mut headers)));
                        events.push(event);
                    }
                }
            }
        }
        events.extend(RawChange::all(&bytes, headers));
        let post_batch_token = post_batch_token.and_then(|place| {
            let token = RawDocument::from_bytes(&bytes[place]).ok()?;
            Some(ResumeToken::from(token))
        });
        Ok(Self {
            end: end(&events, post_batch_token, assembly),
            events,
            room: None,
        })
    }

    /// Takes the events from this place on, with what is after them.
    pub(super) fn split_off(&mut self, place: usize) -> Self {
        let rest = Self {
            events: self.events.split_off(place),
            end: self.end.take(),
            room: self.room.take(),
        };
        self.end = last_place(&self.events);
        rest
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
        return last_place(events);
    }
    let token = post_batch_token.or_else(|| Some(events.last()?.token()))?;
    if assembly.split_token.as_ref() == Some(&token) {
        return Some(Mark::Token(token, TokenKind::SplitEvent));
    }
    assembly.split_token = None;
    Some(Mark::Token(token, TokenKind::StartAfter))
}

/// The place of the last event, and not the event once more.
fn last_place(events: &[RawChange]) -> Option<Mark> {
    let (token, kind) = Mark::Event(events.last()?.clone()).token();
    Some(Mark::Token(token, kind))
}

/// Where the parts of a reply are.
struct Cursor {
    documents: Range<usize>,
    post_batch_token: Option<Range<usize>>,
}

impl Cursor {
    fn find(reply: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = None;
        for field in Fields::of(reply)? {
            let field = field?;
            if field.name == b"cursor" && field.element_type == DOCUMENT {
                cursor = Some(field.value);
            }
        }
        let cursor = cursor.ok_or(DecodeError::Missing("cursor"))?;
        let (mut documents, mut post_batch_token) = (None, None);
        for field in Fields::within(reply, cursor)? {
            let field = field?;
            match (field.name, field.element_type) {
                (b"firstBatch" | b"nextBatch", ARRAY) => documents = Some(field.value),
                (b"postBatchResumeToken", DOCUMENT) => post_batch_token = Some(field.value),
                _ => {}
            }
        }
        Ok(Self {
            documents: documents.ok_or(DecodeError::Missing("cursor.nextBatch"))?,
            post_batch_token,
        })
    }
}

/// A server reply as bytes, so that its events can be ranges of it.
struct Reply(RawBatch);

impl AsRef<[u8]> for Reply {
    fn as_ref(&self) -> &[u8] {
        self.0.as_raw_document().as_bytes()
    }
}
