use std::fmt;

use bson::{RawBson, RawDocument, RawDocumentBuf};
use serde::de::DeserializeOwned;

use crate::{bson_path, extract::Rejection};

/// The key of the changed document: its `_id`, after the shard key on a sharded collection.
#[derive(Clone, PartialEq)]
pub struct DocumentKey(RawDocumentBuf);

impl DocumentKey {
    pub(crate) fn new(key: RawDocumentBuf) -> Self {
        Self(key)
    }

    /// The key as the server sent it.
    pub fn raw(&self) -> &RawDocument {
        &self.0
    }

    /// The document's `_id`.
    pub fn id(&self) -> Option<RawBson> {
        let id = self.0.get("_id").ok().flatten();
        id.map(RawBson::from)
    }

    /// The value at `path`, decoded; `None` where the key has no such field.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] when the value does not decode as `V`.
    pub fn get<V: DeserializeOwned>(&self, path: &str) -> Result<Option<V>, Rejection> {
        bson_path::get(&self.0, path)
            .map(|value| bson_path::decode(value, path))
            .transpose()
    }
}

impl fmt::Debug for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bson_path::debug(&self.0, f)
    }
}
