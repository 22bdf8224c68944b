//! Dotted paths into raw BSON.

use std::fmt::{self, Display};

use bson::{Document, RawBson, RawBsonRef, RawDocument};
use serde::de::DeserializeOwned;

use crate::{bson_walk, extract::Rejection};

/// How one path lies to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The two are one.
    Same,
    /// The first holds the second.
    Parent,
    /// The first lies within the second.
    Part,
    /// Neither holds the other.
    Apart,
}

impl Relation {
    /// How `path` lies to `other`.
    pub(crate) fn of(path: &str, other: &str) -> Self {
        let (shorter, longer, longer_is_first) = if path.len() > other.len() {
            (other, path, true)
        } else {
            (path, other, false)
        };
        match longer.strip_prefix(shorter) {
            Some("") => Self::Same,
            Some(rest) if rest.starts_with('.') && longer_is_first => Self::Part,
            Some(rest) if rest.starts_with('.') => Self::Parent,
            _ => Self::Apart,
        }
    }
}

/// The value at `path`, through documents only.
pub(crate) fn get<'a>(document: &'a RawDocument, path: &str) -> Option<RawBsonRef<'a>> {
    match path.split_once('.') {
        None => bson_walk::get(document, path),
        Some((first, rest)) => get(bson_walk::get(document, first)?.as_document()?, rest),
    }
}

pub(crate) fn decode<V: DeserializeOwned>(
    value: RawBsonRef<'_>,
    path: &str,
) -> Result<V, Rejection> {
    let decoded = bson::Bson::try_from(RawBson::from(value)).and_then(bson::deserialize_from_bson);
    decoded.map_err(|error| Rejection::decode(format!("the value of `{path}`"), error))
}

/// Shows `document` as Extended JSON.
pub(crate) fn debug(document: &RawDocument, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match Document::try_from(document) {
        Ok(document) => document.fmt(f),
        Err(_) => fmt::Debug::fmt(document, f),
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn relation_goes_by_whole_segments() {
        assert_eq!(Relation::of("a.b", "a.b"), Relation::Same);
        assert_eq!(Relation::of("a", "a.b"), Relation::Parent);
        assert_eq!(Relation::of("a.b.c", "a.b"), Relation::Part);
        assert_eq!(Relation::of("ab", "a"), Relation::Apart);
        assert_eq!(Relation::of("a", "ab"), Relation::Apart);
        assert_eq!(Relation::of("a.b", "a.c"), Relation::Apart);
    }

    #[test]
    fn get_walks_documents() {
        let document = rawdoc! { "a": { "b": 7 }, "c": [1] };
        assert_eq!(get(&document, "a.b").and_then(RawBsonRef::as_i32), Some(7));
        assert!(get(&document, "a.x").is_none());
        assert!(get(&document, "c.0").is_none());
    }
}
