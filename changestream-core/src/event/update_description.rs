use std::{fmt, ops::ControlFlow};

use bson::{RawArray, RawBsonRef, RawDocument, RawDocumentBuf};
use serde::de::DeserializeOwned;

use crate::{
    bson_path::{self, Relation},
    bson_walk::{ARRAY, DOCUMENT, Field, Fields},
    extract::Rejection,
};

/// What an update changed: the event's `updateDescription` (MongoDB manual, *update Event*).
#[derive(Clone, PartialEq)]
pub struct UpdateDescription(RawDocumentBuf);

/// An array that an update shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TruncatedArray<'a> {
    /// The array's path.
    pub field: &'a str,
    /// How many elements are left.
    pub new_size: u64,
}

impl UpdateDescription {
    pub(crate) fn new(description: RawDocumentBuf) -> Self {
        Self(description)
    }

    /// The description as the server sent it.
    pub fn raw(&self) -> &RawDocument {
        &self.0
    }

    /// The fields that were set and their new values.
    ///
    /// The keys are paths: `$set: {"payment.status": "paid"}` gives the one key `payment.status`.
    pub fn updated_fields(&self) -> &RawDocument {
        let fields = self.0.get_document("updatedFields");
        fields.unwrap_or_else(|_none| empty())
    }

    /// The paths that were removed.
    pub fn removed_fields(&self) -> impl Iterator<Item = &str> {
        let fields = self.0.get_array("removedFields").into_iter();
        fields.flat_map(removed_fields)
    }

    /// The arrays that were shortened.
    pub fn truncated_arrays(&self) -> impl Iterator<Item = TruncatedArray<'_>> {
        let arrays = self.0.get_array("truncatedArrays").into_iter();
        arrays.flat_map(truncated_arrays)
    }

    /// Whether the field at `path` was changed: itself, a parent of it, or a part of it, by being set,
    /// removed or truncated.
    pub fn changed(&self, path: &str) -> bool {
        visit_changed_paths(&self.0, |changed| match Relation::of(changed, path) {
            Relation::Apart => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        })
        .is_break()
    }

    /// The new value of the field at `path`, decoded, where the update states it: the field itself was
    /// set, or a parent that holds it. `None` when it was not set, was removed, or only a part of it was
    /// set.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] when the value does not decode as `V`.
    pub fn get<V: DeserializeOwned>(&self, path: &str) -> Result<Option<V>, Rejection> {
        self.value(path)
            .map(|value| bson_path::decode(value, path))
            .transpose()
    }

    fn value(&self, path: &str) -> Option<RawBsonRef<'_>> {
        self.updated_fields()
            .iter()
            .flatten()
            .find_map(|(key, value)| match Relation::of(key.as_str(), path) {
                Relation::Same => Some(value),
                Relation::Parent => {
                    let rest = &path[key.as_str().len() + 1..];
                    bson_path::get(value.as_document()?, rest)
                }
                Relation::Part | Relation::Apart => None,
            })
    }
}

impl fmt::Debug for UpdateDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bson_path::debug(&self.0, f)
    }
}

/// Calls `look` with the paths that `description` names as set, removed or truncated, until it breaks off.
pub(crate) fn visit_changed_paths<'a, B>(
    description: &'a RawDocument,
    mut look: impl FnMut(&'a str) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let bytes = description.as_bytes();
    for part in fields(bytes) {
        match (part.name, part.element_type) {
            _ if part.value.len() == EMPTY.len() => {}
            (b"updatedFields", DOCUMENT) => {
                let mut paths = fields(&bytes[part.value]).map(|field| field.name);
                paths.try_for_each(|path| match str::from_utf8(path) {
                    Ok(path) => look(path),
                    Err(_) => ControlFlow::Continue(()),
                })?;
            }
            (b"removedFields", ARRAY) => {
                let fields = description.get_array("removedFields").into_iter();
                fields.flat_map(removed_fields).try_for_each(&mut look)?;
            }
            (b"truncatedArrays", ARRAY) => {
                let arrays = description.get_array("truncatedArrays").into_iter();
                let mut arrays = arrays.flat_map(truncated_arrays);
                arrays.try_for_each(|array| look(array.field))?;
            }
            _ => {}
        }
    }
    ControlFlow::Continue(())
}

fn fields(document: &[u8]) -> impl Iterator<Item = Field<'_>> {
    Fields::of(document).into_iter().flatten().flatten()
}

fn removed_fields(fields: &RawArray) -> impl Iterator<Item = &str> {
    let fields = fields.into_iter().flatten();
    fields.filter_map(|path| path.as_str())
}

fn truncated_arrays(arrays: &RawArray) -> impl Iterator<Item = TruncatedArray<'_>> {
    arrays.into_iter().flatten().filter_map(|array| {
        let array = array.as_document()?;
        let new_size = match array.get("newSize").ok()?? {
            RawBsonRef::Int32(size) => u64::try_from(size).ok()?,
            RawBsonRef::Int64(size) => u64::try_from(size).ok()?,
            _ => return None,
        };
        Some(TruncatedArray {
            field: array.get_str("field").ok()?,
            new_size,
        })
    })
}

const EMPTY: &[u8] = &[5, 0, 0, 0, 0];

fn empty() -> &'static RawDocument {
    RawDocument::from_bytes(EMPTY).expect("five bytes are the empty document")
}
