//! What a delivery writes.

use bson::{RawArrayBuf, RawBson, RawBsonRef, RawDocumentBuf, cstr, rawdoc};
use changestream_core::{Delivery, HandlerError, Json, Operation};

use super::{
    Mode, Target,
    json::ExtendedJson,
    payload::{Names, Payload},
};

/// The field that is the sink's own.
pub(super) const OWN: &str = "_changestream";

/// The most bytes of statements in one command. A command may have 16 KB more than a document.
pub(super) const MAX_BYTES: usize = (16 << 20) + (8 << 10);

/// One statement of a command.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) kind: Kind,
    /// The document that it is about, as `{_id: ..}`.
    pub(super) id: RawDocumentBuf,
    pub(super) body: RawDocumentBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Insert,
    Update,
    Delete,
}

impl Target {
    /// The statement of a delivery.
    ///
    /// # Errors
    ///
    /// A rejection when its message makes no document, or names none.
    pub(super) fn statement(&self, delivery: &Delivery) -> Result<Statement, HandlerError> {
        let statement = match self.mode {
            Mode::Insert => self.insert(delivery)?,
            _ if self.deletes(delivery) => self.delete(delivery)?,
            Mode::Upsert => self.upsert(delivery)?,
            Mode::Merge => self.merge(delivery)?,
        };
        match statement.body.as_bytes().len() <= MAX_BYTES {
            true => Ok(statement),
            false => Err(HandlerError::reject(format!(
                "`{}` does not take the document, which has more than 16 MB",
                self.namespace
            ))),
        }
    }

    fn deletes(&self, delivery: &Delivery) -> bool {
        let is_of_delete = *delivery.change().operation() == Operation::Delete;
        (is_of_delete && !self.keeps_deleted) || delivery.message().payload().is_empty()
    }

    fn insert(&self, delivery: &Delivery) -> Result<Statement, HandlerError> {
        let payload = Payload::of(delivery, Names::Plain)?;
        let (id, own) = match (&self.id, &payload.id) {
            (None, None) => (rawdoc! { "_id": delivery.id() }, None),
            (_, said) => {
                let own = rawdoc! { "delivery": delivery.id() };
                (self.id(delivery, said.as_ref())?, Some(own))
            }
        };
        let mut body = payload.behind(&id);
        if let Some(own) = own {
            body.append(cstr!("_changestream"), own);
        }
        let kind = Kind::Insert;
        Ok(Statement { kind, id, body })
    }

    fn upsert(&self, delivery: &Delivery) -> Result<Statement, HandlerError> {
        let payload = Payload::of(delivery, Names::Plain)?;
        let id = self.id(delivery, payload.id.as_ref())?;
        let mut document = payload.behind(&id);
        let mut body = rawdoc! { "q": id.clone() };
        match self.position(delivery)? {
            None => body.append(cstr!("u"), document),
            Some(position) => {
                let own = rawdoc! { "position": position.as_str() };
                document.append(cstr!("_changestream"), own);
                body.append(cstr!("u"), unless_newer(position, document));
            }
        }
        body.append(cstr!("upsert"), true);
        let kind = Kind::Update;
        Ok(Statement { kind, id, body })
    }

    fn merge(&self, delivery: &Delivery) -> Result<Statement, HandlerError> {
        let payload = Payload::of(delivery, Names::OfUpdate)?;
        let id = self.id(delivery, payload.id.as_ref())?;
        let update = match payload.fields.is_empty() {
            false => rawdoc! { "$set": payload.fields },
            // An empty `$set` is an error before 5.0.
            true => rawdoc! { "$setOnInsert": id.clone() },
        };
        let body = rawdoc! { "q": id.clone(), "u": update, "upsert": true };
        let kind = Kind::Update;
        Ok(Statement { kind, id, body })
    }

    fn delete(&self, delivery: &Delivery) -> Result<Statement, HandlerError> {
        let id = self.id(delivery, Payload::id_of(delivery).as_ref())?;
        let mut query = id.clone();
        if let Some(position) = self.position(delivery)? {
            let not_newer = rawdoc! { "$not": { "$gt": position } };
            query.append(cstr!("_changestream.position"), not_newer);
        }
        let body = rawdoc! { "q": query, "limit": 1 };
        let kind = Kind::Delete;
        Ok(Statement { kind, id, body })
    }

    /// The document that a delivery is about, as `{_id: ..}`; `said` is what its message says.
    fn id(
        &self,
        delivery: &Delivery,
        said: Option<&RawBson>,
    ) -> Result<RawDocumentBuf, HandlerError> {
        if let Some(template) = &self.id {
            return Ok(rawdoc! { "_id": template.render(delivery)? });
        }
        let key = delivery.change().raw_document_key();
        let of_event = key.and_then(|key| key.get("_id").ok().flatten());
        // In JSON an id has lost which integer it was.
        let of_event = of_event.filter(|id| said.is_none_or(|said| is_json_of(said, *id)));
        let id = of_event.or(said.map(RawBson::as_raw_bson_ref));
        let id = id.ok_or_else(|| {
            HandlerError::reject(
                "the event is of no document, and its message has no `_id`; give it one, or the sink a template",
            )
        })?;
        match matches_itself_only(id) {
            true => {
                let mut document = RawDocumentBuf::new();
                document.append(cstr!("_id"), id);
                Ok(document)
            }
            false => Err(HandlerError::reject(
                "the `_id` of the message is none that a document can have: an array, a regular expression, undefined, or \
                 with a `$` before a name",
            )),
        }
    }

    /// Where the event is in the stream, if that is to be kept. Positions are in the order of their text.
    fn position(&self, delivery: &Delivery) -> Result<Option<String>, HandlerError> {
        if !self.is_versioned {
            return Ok(None);
        }
        let change = delivery.change();
        let of_token = change.raw_token().get_str("_data").map(str::to_owned);
        // A snapshot has a time only. The tokens of events begin with theirs, so it goes before those of the same time.
        let of_time = || {
            let time = change.cluster_time()?;
            Some(format!("82{:08X}{:08X}", time.seconds(), time.increment()))
        };
        let position = of_token.ok().or_else(of_time);
        let position =
            position.ok_or_else(|| HandlerError::reject("the event has no place in the stream"))?;
        Ok(Some(position))
    }
}

/// The update to `document`, unless the one that is there is of an event after `position`.
fn unless_newer(position: String, document: RawDocumentBuf) -> RawArrayBuf {
    let choice = rawdoc! {
        "if": { "$gt": ["$_changestream.position", position] },
        "then": "$$ROOT",
        "else": { "$literal": document },
    };
    let mut pipeline = RawArrayBuf::new();
    pipeline.push(rawdoc! { "$replaceWith": { "$cond": choice } });
    pipeline
}

fn is_json_of(said: &RawBson, id: RawBsonRef<'_>) -> bool {
    let json = serde_json::to_vec(&Json::relaxed(id));
    let read = json.and_then(|json| serde_json::from_slice(&json));
    read.is_ok_and(|ExtendedJson(id)| id == *said)
}

/// Whether a query for this `_id` finds the document that has it, and no other one.
fn matches_itself_only(id: RawBsonRef<'_>) -> bool {
    match id {
        RawBsonRef::Array(_) | RawBsonRef::RegularExpression(_) | RawBsonRef::Undefined => false,
        RawBsonRef::Document(id) => {
            let mut names = id.iter().flatten();
            !names.any(|(name, _)| name.as_str().starts_with('$'))
        }
        _ => true,
    }
}
