//! The key of an event: what orders it, and what its messages carry.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;
use bson::{Decimal128, RawBsonRef, RawDocument};

use crate::{bson_path, bson_walk, event::RawChange, filter::FieldPath};

/// The value at `path` in the full document, else the pre-image, else the document key; without a path, or
/// where there is none of these, the document's `_id`. `None` for an event of no document.
pub(crate) fn key<'a>(change: &'a RawChange, path: Option<&FieldPath>) -> Option<RawBsonRef<'a>> {
    path.and_then(|path| at(change, path))
        .or_else(|| id(change))
}

fn at<'a>(change: &'a RawChange, path: &FieldPath) -> Option<RawBsonRef<'a>> {
    let documents = [
        change.full_document(),
        change.pre_image(),
        change.raw_document_key(),
    ];
    let mut documents = documents.into_iter().flatten();
    documents.find_map(|document| bson_path::get(document, path.as_str()))
}

/// The `_id` of the changed document.
pub(crate) fn id(change: &RawChange) -> Option<RawBsonRef<'_>> {
    bson_walk::get(change.raw_document_key()?, "_id")
}

/// A key as text: strings as they are, object ids in hexadecimal, anything else as relaxed Extended JSON.
pub(crate) fn text(key: RawBsonRef<'_>) -> String {
    match key {
        RawBsonRef::String(text) => text.to_owned(),
        RawBsonRef::ObjectId(id) => id.to_hex(),
        key => match bson::Bson::try_from(bson::RawBson::from(key)) {
            Ok(key) => key.into_relaxed_extjson().to_string(),
            Err(_) => String::new(),
        },
    }
}

/// Hashes the keys of events for one handler: equal keys have equal hashes, and where two others collide they
/// only wait for each other. The keys of another handler have other hashes.
#[derive(Clone, Debug)]
pub(crate) struct KeyHasher {
    path: Option<FieldPath>,
    state: RandomState,
}

impl KeyHasher {
    pub(crate) fn new(path: Option<FieldPath>) -> Self {
        Self {
            path,
            state: RandomState::new(),
        }
    }

    pub(crate) fn path(&self) -> Option<&FieldPath> {
        self.path.as_ref()
    }

    /// The hash of `change`'s key; `None` for an event of no document.
    ///
    /// Documents of several collections that share the value at a path share a key; without a path, each
    /// document has its own.
    pub(crate) fn hash(&self, change: &RawChange) -> Option<u64> {
        let mut hasher = self.state.build_hasher();
        match self.path.as_ref().and_then(|path| at(change, path)) {
            Some(value) => write(value, &mut hasher),
            None => write_document_key(change, &mut hasher)?,
        }
        Some(hasher.finish())
    }
}

/// Writes the document's `_id`, and where it is.
pub(crate) fn write_document_key(change: &RawChange, hasher: &mut impl Hasher) -> Option<()> {
    let id = id(change)?;
    hasher.write(change.raw_database());
    hasher.write(&[0]);
    hasher.write(change.raw_collection().unwrap_or_default());
    hasher.write(&[0]);
    write(id, hasher);
    Some(())
}

/// Writes the same bytes for all values that are equal to the server, on every machine: partitions are told apart
/// by them. Others may have the same bytes too.
pub(crate) fn write(value: RawBsonRef<'_>, hasher: &mut impl Hasher) {
    match value {
        RawBsonRef::Int32(n) => write_number(n.into(), hasher),
        RawBsonRef::Int64(n) => write_number(n as f64, hasher),
        RawBsonRef::Double(n) => write_number(n, hasher),
        RawBsonRef::Decimal128(n) => write_number(nearest(n), hasher),
        RawBsonRef::String(text) | RawBsonRef::Symbol(text) => hasher.write(text.as_bytes()),
        RawBsonRef::ObjectId(id) => hasher.write(&id.bytes()),
        RawBsonRef::Document(document) => write_fields(document, hasher),
        RawBsonRef::Array(array) => {
            for value in array.into_iter().flatten() {
                write(value, hasher);
            }
        }
        RawBsonRef::Binary(binary) => hasher.write(binary.bytes),
        RawBsonRef::DateTime(time) => hasher.write(&time.timestamp_millis().to_le_bytes()),
        RawBsonRef::Boolean(value) => hasher.write(&[value.into()]),
        RawBsonRef::Timestamp(time) => {
            hasher.write(&time.time.to_le_bytes());
            hasher.write(&time.increment.to_le_bytes());
        }
        other => hasher.write(&[other.element_type() as u8]),
    }
}

fn write_fields(document: &RawDocument, hasher: &mut impl Hasher) {
    for (key, value) in document.iter().flatten() {
        hasher.write(key.as_str().as_bytes());
        hasher.write(&[0]);
        write(value, hasher);
    }
}

/// Numbers of all types are compared by value; there is more than one zero, and more than one NaN.
fn write_number(n: f64, hasher: &mut impl Hasher) {
    const NAN: u64 = 0x7ff8_0000_0000_0000;
    let bits = match n.is_nan() {
        true => NAN,
        false => (n + 0.0).to_bits(),
    };
    hasher.write(&bits.to_le_bytes());
}

fn nearest(n: Decimal128) -> f64 {
    n.to_string().parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn change(collection: &str, key: RawDocumentBuf, document: RawDocumentBuf) -> RawChange {
        let event = rawdoc! {
            "_id": { "_data": "82" }, "operationType": "insert",
            "ns": { "db": "shop", "coll": collection }, "documentKey": key, "fullDocument": document,
        };
        RawChange::new(event.into_bytes()).expect("an event")
    }

    fn hasher(path: &str) -> KeyHasher {
        KeyHasher::new(Some(FieldPath::new(path).expect("a path")))
    }

    #[test]
    fn each_document_has_a_key_of_its_own() {
        let hasher = KeyHasher::new(None);
        let hash = |collection, id: i32| {
            hasher.hash(&change(collection, rawdoc! { "_id": id }, rawdoc! {}))
        };
        assert_eq!(hash("orders", 1), hash("orders", 1));
        assert_ne!(hash("orders", 1), hash("orders", 2));
        assert_ne!(hash("orders", 1), hash("products", 1));
    }

    #[test]
    fn the_shard_key_does_not_part_the_events_of_a_document() {
        let hasher = KeyHasher::new(None);
        let hash = |key| hasher.hash(&change("orders", key, rawdoc! {}));
        assert_eq!(
            hash(rawdoc! { "region": "eu", "_id": 1 }),
            hash(rawdoc! { "region": "us", "_id": 1 })
        );
    }

    #[test]
    fn a_path_orders_across_documents_and_collections() {
        let hasher = hasher("customer.id");
        let hash = |collection, id: i32, document| {
            hasher.hash(&change(collection, rawdoc! { "_id": id }, document))
        };
        assert_eq!(
            hash("orders", 1, rawdoc! { "customer": { "id": 7 } }),
            hash("returns", 2, rawdoc! { "customer": { "id": 7.0 } })
        );
        assert_ne!(
            hash("orders", 1, rawdoc! { "customer": { "id": 7 } }),
            hash("orders", 1, rawdoc! { "customer": { "id": 8 } })
        );
        assert_ne!(
            hash("orders", 1, rawdoc! {}),
            hash("orders", 2, rawdoc! {}),
            "without the value, the document's own key"
        );
    }

    #[test]
    fn the_keys_of_two_handlers_are_apart() {
        let change = change("orders", rawdoc! { "_id": 1 }, rawdoc! {});
        let [one, other] = [KeyHasher::new(None), KeyHasher::new(None)];
        assert_ne!(one.hash(&change), other.hash(&change));
    }

    #[test]
    fn an_event_of_no_document_has_no_key() {
        let event = rawdoc! { "_id": { "_data": "82" }, "operationType": "drop" };
        let change = RawChange::new(event.into_bytes()).expect("an event");
        assert_eq!(KeyHasher::new(None).hash(&change), None);
    }
}
