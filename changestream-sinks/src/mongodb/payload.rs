//! A message as the fields of a document.

use bson::{RawBson, RawDocument, RawDocumentBuf};
use changestream_core::{Delivery, HandlerError};

use super::{json::ExtendedJson, statement::OWN};

/// A message that makes a document.
pub(super) struct Payload {
    /// Its `_id`, unless that is null.
    pub(super) id: Option<RawBson>,
    /// The others.
    pub(super) fields: RawDocumentBuf,
}

/// What the names of fields must not have, for them to be fields and nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// No `$` before them.
    Plain,
    /// And no dot in them, which would make them paths.
    OfUpdate,
}

impl Payload {
    /// # Errors
    ///
    /// A rejection, without values, when it is not a JSON object, or when a field has a name that it must not have.
    pub(super) fn of(delivery: &Delivery, names: Names) -> Result<Self, HandlerError> {
        let mut document = parse(delivery)?;
        for field in document.iter_elements().flatten() {
            check(field.key().as_str(), names)?;
        }
        let id = take_id(&mut document);
        Ok(Self {
            id,
            fields: document,
        })
    }

    /// The `_id` of a message that counts for nothing else.
    pub(super) fn id_of(delivery: &Delivery) -> Option<RawBson> {
        take_id(&mut parse(delivery).ok()?)
    }

    /// Its fields, behind those of `document`.
    pub(super) fn behind(&self, document: &RawDocument) -> RawDocumentBuf {
        let (first, second) = (document.as_bytes(), self.fields.as_bytes());
        // Each has its length before it, and a zero behind.
        let mut bytes = Vec::with_capacity(first.len() + second.len());
        bytes.extend_from_slice(&first[..first.len() - 1]);
        bytes.extend_from_slice(&second[4..]);
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        RawDocumentBuf::from_bytes(bytes).expect("the length is right")
    }
}

fn parse(delivery: &Delivery) -> Result<RawDocumentBuf, HandlerError> {
    let message = delivery.message();
    if !is_json(message.content_type()) {
        return Err(HandlerError::reject(
            "a document is made of a JSON object, and the message is not JSON; make one of it with `SinkSpec::map`",
        ));
    }
    match serde_json::from_slice(message.payload()) {
        Ok(ExtendedJson(RawBson::Document(document))) => Ok(document),
        Ok(_) => Err(HandlerError::reject(
            "a document is made of a JSON object, and the message is other JSON; make one of it with `SinkSpec::map`",
        )),
        Err(error) => Err(HandlerError::reject(format!(
            "the message makes no document: {error}"
        ))),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let suffix = essence.len().checked_sub("+json".len());
    let suffix = suffix.and_then(|at| essence.get(at..));
    essence.eq_ignore_ascii_case("application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

fn take_id(document: &mut RawDocumentBuf) -> Option<RawBson> {
    let id = RawBson::from(document.get("_id").ok()??);
    let others = document.iter().flatten();
    *document = others.filter(|(name, _)| *name != "_id").collect();
    (id != RawBson::Null).then_some(id)
}

fn check(name: &str, names: Names) -> Result<(), HandlerError> {
    let problem = match name {
        OWN => "which is the sink's own name; rename it",
        name if name.starts_with('$') => "and `$` begins an operator; rename it",
        name if names == Names::OfUpdate && name.contains('.') => {
            "and a dot makes a path; rename or nest it"
        }
        _ => return Ok(()),
    };
    Err(HandlerError::reject(format!(
        "a field of the message is named `{name}`, {problem}"
    )))
}
