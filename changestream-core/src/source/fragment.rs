use bson::{RawBsonRef, RawDocument, RawDocumentBuf, cstr};

use super::Position;
use crate::{
    checkpoint::TokenKind,
    decode::DecodeError,
    event::{RawChange, ResumeToken},
};

/// Puts split events together: `$changeStreamSplitLargeEvent` gives each of them as several documents,
/// which share the event's fields out and have a token of their own each.
///
/// It belongs to one cursor, so that a fault in the middle of an event leaves nothing of it.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    unfinished: Option<Unfinished>,
    /// That of the last split event, while the stream has not come further.
    pub(crate) split_token: Option<ResumeToken>,
}

#[derive(Debug, Default)]
struct Unfinished {
    fields: RawDocumentBuf,
    fragments: i32,
}

impl Assembly {
    /// Of a cursor that goes on at `position`.
    pub(crate) fn at(position: &Position) -> Self {
        Self {
            split_token: match position {
                Position::Token(token, TokenKind::SplitEvent) => Some(token.clone()),
                _ => None,
            },
            ..Self::default()
        }
    }

    /// Whether the last fragment of an event is still to come.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Takes in a fragment, and gives the event once it is whole. Its token is that of its last fragment.
    ///
    /// # Errors
    ///
    /// When fragments are missing or out of order.
    pub(crate) fn add(&mut self, document: &RawDocument) -> Result<Option<RawChange>, DecodeError> {
        let split_event = document.get_document("splitEvent");
        let split_event = split_event.map_err(|_| DecodeError::Fragment)?;
        let number = |key| split_event.get_i32(key).map_err(|_| DecodeError::Fragment);
        let (fragment, of) = (number("fragment")?, number("of")?);
        let mut event = self.unfinished.take().unwrap_or_default();
        if fragment != event.fragments + 1 || fragment > of {
            return Err(DecodeError::Fragment);
        }
        event.fragments = fragment;
        let mut token = None;
        for element in document {
            let (key, value) = element.map_err(DecodeError::Malformed)?;
            match key.as_str() {
                "splitEvent" => {}
                "_id" => token = Some(value),
                _ => event.fields.append(key, value),
            }
        }
        if fragment < of {
            self.unfinished = Some(event);
            crate::crash_point!("fragment.received");
            return Ok(None);
        }
        let token = token.unwrap_or(RawBsonRef::Null);
        event.fields.append(cstr!("_id"), token);
        let event = RawChange::reassembled(event.fields.into_bytes())?;
        self.split_token = Some(event.token());
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::source::Batch;

    fn fragment(number: i32, of: i32, field: &str) -> RawDocumentBuf {
        let mut document = bson::doc! {
            "_id": { "_data": format!("82{number}") },
            "splitEvent": { "fragment": number, "of": of },
            field: { "n": number },
        };
        if number == 1 {
            document.insert("operationType", "update");
        }
        RawDocumentBuf::try_from(&document).expect("a document")
    }

    #[test]
    fn fragments_make_one_event_with_the_last_token() {
        let mut assembly = Assembly::default();
        for (number, field) in [(1, "fullDocument"), (2, "fullDocumentBeforeChange")] {
            let added = assembly.add(&fragment(number, 3, field));
            assert!(matches!(added, Ok(None)));
            assert!(assembly.is_unfinished());
        }
        let Ok(Some(event)) = assembly.add(&fragment(3, 3, "updateDescription")) else {
            panic!("the event is whole")
        };
        assert!(!assembly.is_unfinished());
        assert_eq!(event.raw_token(), &*rawdoc! { "_data": "823" });
        assert_eq!(event.full_document(), Some(&*rawdoc! { "n": 1 }));
        assert_eq!(event.pre_image(), Some(&*rawdoc! { "n": 2 }));
        assert_eq!(event.raw_update_description(), Some(&*rawdoc! { "n": 3 }));
        assert!(
            event
                .as_raw()
                .get("splitEvent")
                .is_ok_and(|field| field.is_none())
        );
    }

    #[test]
    fn a_fragment_that_is_missing_is_an_error() {
        let mut assembly = Assembly::default();
        assert!(assembly.add(&fragment(2, 3, "a")).is_err());
        let mut assembly = Assembly::default();
        assert!(assembly.add(&fragment(1, 3, "a")).is_ok());
        assert!(assembly.add(&fragment(3, 3, "c")).is_err());
    }

    #[test]
    fn an_event_between_fragments_is_an_error() {
        let event = rawdoc! { "_id": { "_data": "82" }, "operationType": "insert" };
        let decode = |documents: [RawDocumentBuf; 2]| {
            let documents = bson::RawArrayBuf::from_iter(documents);
            let reply = rawdoc! { "cursor": { "nextBatch": documents } };
            Batch::decode(reply.into_bytes().into(), &mut Assembly::default())
        };
        assert!(decode([fragment(1, 2, "a"), event.clone()]).is_err());
        assert!(decode([event, fragment(1, 2, "a")]).is_ok());
    }
}
