use std::fmt;

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use super::Delivery;
use crate::{
    bson_path,
    extract::{Need, Needs},
    filter::{FieldPath, InvalidPath},
};

/// A field of what is delivered: of a document of the event, or of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    part: Part,
    path: FieldPath,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    DocumentKey,
    FullDocument,
    PreImage,
    Message,
}

impl Part {
    const ALL: [Self; 4] = [
        Self::DocumentKey,
        Self::FullDocument,
        Self::PreImage,
        Self::Message,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::DocumentKey => "document_key",
            Self::FullDocument => "full_document",
            Self::PreImage => "pre_image",
            Self::Message => "message",
        }
    }
}

impl Place {
    /// `full_document.a.b`; `None` where the text does not begin with the name of such a part.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, InvalidPath>> {
        let (name, path) = text.split_once('.')?;
        let part = Part::ALL.into_iter().find(|part| part.name() == name)?;
        Some(FieldPath::new(path).map(|path| Self { part, path }))
    }

    /// What `map` makes of the value that is there.
    pub(crate) fn value<T>(
        &self,
        delivery: &Delivery,
        map: impl FnOnce(RawBsonRef<'_>) -> Option<T>,
    ) -> Option<T> {
        let change = delivery.change();
        let at = |document: Option<&RawDocument>| {
            bson_path::get(document?, self.path.as_str()).and_then(map)
        };
        match self.part {
            Part::DocumentKey => at(change.raw_document_key()),
            Part::FullDocument => at(change.full_document()),
            Part::PreImage => at(change.pre_image()),
            Part::Message => at(payload(delivery).as_deref()),
        }
    }

    /// The document that it is in.
    pub(crate) fn needs(&self) -> Needs {
        match self.part {
            Part::FullDocument => Needs::NONE.full_document(Need::Optional),
            Part::PreImage => Needs::NONE.pre_image(Need::Optional),
            Part::DocumentKey | Part::Message => Needs::NONE,
        }
    }

    /// The path in a document that the server is asked for.
    pub(crate) fn document_path(&self) -> Option<&FieldPath> {
        let is_asked_for = matches!(self.part, Part::FullDocument | Part::PreImage);
        is_asked_for.then_some(&self.path)
    }
}

fn payload(delivery: &Delivery) -> Option<RawDocumentBuf> {
    let payload: serde_json::Value = delivery.message().parse_json().ok()?;
    let payload = bson::Bson::try_from(payload).ok()?;
    RawDocumentBuf::try_from(payload.as_document()?).ok()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.part.name(), self.path.as_str())
    }
}
