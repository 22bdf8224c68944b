//! Finds an event's parts in one walk over its top-level fields, without looking into any of them.

use std::ops::Range;

use bson::{DateTime, Timestamp};

use crate::{
    bson_walk::{DATE_TIME, DOCUMENT, Field, Fields, Malformed, STRING, TIMESTAMP},
    event::Operation,
};

/// Why bytes are not a change event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not BSON.
    #[error("the event is not a BSON document")]
    Malformed(#[source] bson::error::Error),
    /// The event has no usable field of this name.
    #[error("the event has no `{0}`; does a pipeline stage remove it?")]
    Missing(&'static str),
    /// A split event came without all of its fragments, or in another order, or one of them is taken for an event.
    #[error("the fragments of a split event are not in order, or one of them stands for the event")]
    Fragment,
}

impl From<Malformed> for DecodeError {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.into())
    }
}

/// A range of the bytes that an event is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(range: Range<usize>) -> Self {
        let place = |at: usize| at.try_into().expect("BSON has less than 2 GB");
        Self {
            start: place(range.start),
            end: place(range.end),
        }
    }

    pub(crate) fn slice(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

/// Where an event's parts are.
#[derive(Debug)]
pub(crate) struct Header {
    /// The whole event.
    pub(crate) event: Span,
    pub(crate) token: Span,
    pub(crate) operation: Operation,
    pub(crate) database: Option<Span>,
    pub(crate) collection: Option<Span>,
    pub(crate) document_key: Option<Span>,
    pub(crate) update_description: Option<Span>,
    pub(crate) full_document: Option<Span>,
    pub(crate) pre_image: Option<Span>,
    pub(crate) cluster_time: Option<Timestamp>,
    pub(crate) wall_time: Option<DateTime>,
    pub(crate) is_header_only: bool,
    /// The server had split it.
    pub(crate) was_split: bool,
}

/// What a document of the stream is.
#[derive(Debug)]
pub(crate) enum Found {
    Event(Header),
    /// A part of an event that the server has split.
    Fragment,
}

impl Header {
    /// Of the event at `place` in `bytes`.
    pub(crate) fn decode(bytes: &[u8], place: Range<usize>) -> Result<Self, DecodeError> {
        match Self::find(bytes, place)? {
            Found::Event(header) => Ok(header),
            Found::Fragment => Err(DecodeError::Fragment),
        }
    }

    pub(crate) fn find(bytes: &[u8], place: Range<usize>) -> Result<Found, DecodeError> {
        let (mut token, mut operation) = (None, None);
        let (mut database, mut collection) = (None, None);
        let (mut document_key, mut update_description) = (None, None);
        let (mut full_document, mut pre_image) = (None, None);
        let (mut cluster_time, mut wall_time) = (None, None);
        let mut is_header_only = false;
        for field in Fields::within(bytes, place.clone())? {
            let field = field?;
            // `==` compares eight bytes at once, a pattern one after the other.
            let is = |name: &[u8]| field.name == name;
            if is(b"_id") {
                token = document(field);
            } else if is(b"operationType") {
                operation = string(&field).and_then(|name| operation_named(name.slice(bytes)));
            } else if is(b"ns") && field.element_type == DOCUMENT {
                for name in Fields::within(bytes, field.value)? {
                    let name = name?;
                    match name.name {
                        b"db" => database = string(&name),
                        b"coll" => collection = string(&name),
                        _ => {}
                    }
                }
            } else if is(b"documentKey") {
                document_key = document(field);
            } else if is(b"updateDescription") {
                update_description = document(field);
            } else if is(b"fullDocument") {
                full_document = document(field);
            } else if is(b"fullDocumentBeforeChange") {
                pre_image = document(field);
            } else if is(b"clusterTime") && field.element_type == TIMESTAMP {
                let value = integer(bytes, field);
                cluster_time = Some(Timestamp {
                    time: (value >> 32) as u32,
                    increment: value as u32,
                });
            } else if is(b"wallTime") && field.element_type == DATE_TIME {
                let value = integer(bytes, field);
                wall_time = Some(DateTime::from_millis(value.cast_signed()));
            } else if is(b"omittedFields") {
                is_header_only = true;
            } else if is(b"splitEvent") && field.element_type == DOCUMENT {
                return Ok(Found::Fragment);
            }
        }
        Ok(Found::Event(Self {
            event: Span::new(place),
            token: token.ok_or(DecodeError::Missing("_id"))?,
            operation: operation.ok_or(DecodeError::Missing("operationType"))?,
            database,
            collection,
            document_key,
            update_description,
            full_document,
            pre_image,
            cluster_time,
            wall_time,
            is_header_only,
            was_split: false,
        }))
    }
}

fn document(field: Field<'_>) -> Option<Span> {
    (field.element_type == DOCUMENT).then(|| Span::new(field.value))
}

fn operation_named(name: &[u8]) -> Option<Operation> {
    Operation::known(name).or_else(|| Some(str::from_utf8(name).ok()?.into()))
}

/// Without the length before it and the zero after it.
fn string(field: &Field<'_>) -> Option<Span> {
    let Range { start, end } = field.value;
    (field.element_type == STRING).then(|| Span::new(start + 4..end - 1))
}

fn integer(bytes: &[u8], field: Field<'_>) -> u64 {
    let value = bytes[field.value].first_chunk();
    u64::from_le_bytes(*value.expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use crate::event::{Operation, RawChange};

    fn change(event: RawDocumentBuf) -> RawChange {
        RawChange::new(event.into_bytes()).expect("an event")
    }

    #[test]
    fn unknown_operations_and_fields_are_no_error() {
        let change =
            change(rawdoc! { "_id": { "_data": "82" }, "operationType": "reshard", "new": 1 });
        assert_eq!(change.operation(), &Operation::Other("reshard".into()));
        assert_eq!(change.namespace().to_string(), "");
    }

    #[test]
    fn null_documents_are_absent() {
        let change = change(rawdoc! {
            "_id": { "_data": "82" }, "operationType": "update", "fullDocument": null,
            "ns": { "db": "shop", "coll": "orders" }, "documentKey": { "_id": 1 },
        });
        assert!(change.full_document().is_none());
        assert_eq!(change.namespace().to_string(), "shop.orders");
    }

    #[test]
    fn every_truncation_of_an_event_is_an_error_and_no_panic() {
        let event = rawdoc! {
            "_id": { "_data": "82" }, "operationType": "insert", "fullDocument": { "a": [1, "x"] },
        };
        for length in 0..event.as_bytes().len() {
            assert!(RawChange::new(event.as_bytes()[..length].to_vec()).is_err());
        }
    }

    #[test]
    fn a_projected_away_token_is_named() {
        let error = RawChange::new(rawdoc! { "operationType": "insert" }.into_bytes())
            .expect_err("no token");
        assert!(error.to_string().contains("`_id`"));
    }
}
