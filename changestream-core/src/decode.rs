//! Finds an event's parts in one walk over its top-level fields, without looking into any of them.

use bson::{DateTime, RawBsonRef, RawDocument, Timestamp};

use crate::event::Operation;

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
    /// A split event came without all of its fragments, or in another order.
    #[error("the fragments of a split event are not in order")]
    Fragment,
}

/// A range of an event's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(part: &[u8], whole: &[u8]) -> Option<Self> {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        Some(Self {
            start: u32::try_from(start).ok()?,
            end: u32::try_from(start + part.len()).ok()?,
        })
    }

    pub(crate) fn slice(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

/// Where an event's parts are.
#[derive(Clone, Debug)]
pub(crate) struct Header {
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
}

impl Header {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let event = RawDocument::from_bytes(bytes).map_err(DecodeError::Malformed)?;
        let span = |document: &RawDocument| Span::of(document.as_bytes(), bytes);
        let (mut token, mut operation, mut namespace) = (None, None, None);
        let (mut document_key, mut update_description) = (None, None);
        let (mut full_document, mut pre_image) = (None, None);
        let (mut cluster_time, mut wall_time) = (None, None);
        let mut is_header_only = false;
        for element in event.iter_elements() {
            let element = element.map_err(DecodeError::Malformed)?;
            let value = || element.value().map_err(DecodeError::Malformed);
            let document = || value().map(|value| value.as_document());
            match element.key().as_str() {
                "_id" => token = document()?.and_then(span),
                "operationType" => operation = value()?.as_str().map(Operation::from),
                "ns" => namespace = document()?,
                "documentKey" => document_key = document()?.and_then(span),
                "updateDescription" => update_description = document()?.and_then(span),
                "fullDocument" => full_document = document()?.and_then(span),
                "fullDocumentBeforeChange" => pre_image = document()?.and_then(span),
                "clusterTime" => cluster_time = value()?.as_timestamp(),
                "wallTime" => wall_time = value()?.as_datetime(),
                "omittedFields" => is_header_only = true,
                _ => {}
            }
        }
        let name = |key| {
            let name = namespace?.get(key).ok().flatten();
            name.and_then(RawBsonRef::as_str)
                .and_then(|name| Span::of(name.as_bytes(), bytes))
        };
        Ok(Self {
            token: token.ok_or(DecodeError::Missing("_id"))?,
            operation: operation.ok_or(DecodeError::Missing("operationType"))?,
            database: name("db"),
            collection: name("coll"),
            document_key,
            update_description,
            full_document,
            pre_image,
            cluster_time,
            wall_time,
            is_header_only,
        })
    }
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
