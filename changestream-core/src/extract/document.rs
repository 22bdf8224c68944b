//! Decodes a document to a type, and passes over the fields of the document that a struct does not have.
//!
//! `bson`'s deserializer looks into the values of those too, which is a third of the work where a struct has few of
//! the fields. It does so still in documents within the document, and where serde asks for any field (`flatten`).

use std::fmt;

use bson::{RawDeserializer, error::Error};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};

pub(super) fn from_document<T: DeserializeOwned>(document: &[u8]) -> Result<T, Error> {
    T::deserialize(Whole(RawDeserializer::new(document)?))
}

macro_rules! forward {
    ($($method:ident($($name:ident: $kind:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* visitor)
        }
    )*};
}

/// What both do as the deserializer within them.
macro_rules! forward_the_rest {
    () => {
        type Error = D::Error;

        forward! {
            deserialize_any() deserialize_bool()
            deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
            deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
            deserialize_f32() deserialize_f64() deserialize_char() deserialize_str() deserialize_string()
            deserialize_bytes() deserialize_byte_buf() deserialize_option() deserialize_unit()
            deserialize_unit_struct(name: &'static str)
            deserialize_newtype_struct(name: &'static str)
            deserialize_seq() deserialize_tuple(len: usize)
            deserialize_tuple_struct(name: &'static str, len: usize)
            deserialize_map() deserialize_identifier()
            deserialize_enum(name: &'static str, variants: &'static [&'static str])
        }

        fn is_human_readable(&self) -> bool {
            self.0.is_human_readable()
        }
    };
}

/// Deserializes a document.
struct Whole<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Whole<D> {
    forward_the_rest!();

    forward!(deserialize_ignored_any());

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, OfStruct(visitor))
    }
}

/// Takes the fields of a document, which is all that a whole document is.
struct OfStruct<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for OfStruct<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Fields(fields))
    }
}

struct Fields<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(OfValue(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

struct OfValue<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for OfValue<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Value(value))
    }
}

/// Deserializes a field's value, unless it is ignored.
struct Value<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Value<D> {
    forward_the_rest!();

    forward!(deserialize_struct(name: &'static str, fields: &'static [&'static str]));

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Debug};

    use bson::{
        Binary, Bson, DateTime, Decimal128, Document, RawBson, RawDocumentBuf, Timestamp, Uuid,
        oid::ObjectId, rawdoc, serde_helpers::HumanReadable, spec::BinarySubtype,
    };
    use serde::{Deserialize, de::IgnoredAny};

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Kept {
        kept: i32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
        Of(i32),
        With { kept: i32 },
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Flat {
        name: String,
        #[serde(flatten)]
        rest: BTreeMap<String, Bson>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        kept: i32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "of", content = "in")]
    enum Adjacent {
        A(Kept),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "of")]
    enum Tagged {
        A(Kept),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Untagged {
        Whole(Box<All>),
        A(Kept),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Wrapped(i64);

    #[derive(Debug, Deserialize, PartialEq)]
    struct Unit;

    /// Whether what it is made of says that it is for humans, by which types choose their form.
    #[derive(Debug, PartialEq)]
    struct IsReadable(bool);

    impl<'de> Deserialize<'de> for IsReadable {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let is_readable = deserializer.is_human_readable();
            IgnoredAny::deserialize(deserializer)?;
            Ok(Self(is_readable))
        }
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct All {
        id: ObjectId,
        at: DateTime,
        price: Decimal128,
        number: f64,
        small: u8,
        wide: i64,
        flag: bool,
        letter: char,
        name: String,
        bytes: Binary,
        uuid: Uuid,
        time: Timestamp,
        present: Option<Kept>,
        null: Option<i32>,
        #[serde(default)]
        absent: Option<i32>,
        unit: Option<Unit>,
        nested: Kept,
        list: Vec<Kept>,
        pair: (i32, String),
        map: BTreeMap<String, Kept>,
        wrapped: Wrapped,
        plain: Kind,
        of: Kind,
        with: Kind,
        any: Bson,
        document: Document,
        raw: RawDocumentBuf,
        raw_any: RawBson,
        readable: HumanReadable<Kept>,
        is_readable: IsReadable,
    }

    fn all() -> RawDocumentBuf {
        rawdoc! {
            "id": ObjectId::from_bytes([7; 12]), "at": DateTime::from_millis(1), "ignored": { "a": [1] },
            "price": Decimal128::from_bytes([1; 16]), "number": 1.5, "small": 7, "wide": 1_i64 << 40,
            "flag": true, "letter": "é", "name": "x",
            "bytes": Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2] },
            "uuid": Binary { subtype: BinarySubtype::Uuid, bytes: vec![3; 16] },
            "time": Timestamp { time: 1, increment: 2 }, "present": { "kept": 1, "ignored": 1 }, "null": null,
            "unit": null, "nested": { "ignored": "x", "kept": 2 }, "list": [{ "kept": 3 }, { "kept": 4 }],
            "pair": [1, "x"], "map": { "a": { "kept": 5 } }, "wrapped": 6_i64, "plain": "plain",
            "of": { "of": 7 }, "with": { "with": { "kept": 8 } }, "any": { "a": DateTime::from_millis(2) },
            "document": { "a": ObjectId::from_bytes([1; 12]) }, "raw": { "a": 1 }, "raw_any": [1, "x"],
            "readable": { "kept": 9 }, "is_readable": 1,
        }
    }

    fn same_as_of_bson<T: DeserializeOwned + Debug + PartialEq>(document: &RawDocumentBuf) -> bool {
        let bytes = document.as_bytes();
        let ours = from_document::<T>(bytes).map_err(|error| error.to_string());
        let theirs = bson::deserialize_from_slice::<T>(bytes).map_err(|error| error.to_string());
        assert_eq!(ours, theirs);
        ours.is_ok()
    }

    #[test]
    fn whatever_a_type_has_is_what_bson_makes_of_it() {
        assert!(same_as_of_bson::<All>(&all()));
        assert!(same_as_of_bson::<Document>(&all()));
        assert!(same_as_of_bson::<RawDocumentBuf>(&all()));
        assert!(same_as_of_bson::<Bson>(&all()));
        assert!(same_as_of_bson::<Option<All>>(&all()));
        assert!(same_as_of_bson::<IsReadable>(&all()));
        assert!(same_as_of_bson::<HumanReadable<Kept>>(
            &rawdoc! { "kept": 1 }
        ));
        assert!(same_as_of_bson::<BTreeMap<String, i32>>(
            &rawdoc! { "a": 1, "b": 2 }
        ));
        assert!(same_as_of_bson::<Kind>(&rawdoc! { "with": { "kept": 1 } }));
        assert!(same_as_of_bson::<Flat>(&all()));
        assert!(same_as_of_bson::<Adjacent>(
            &rawdoc! { "of": "A", "in": { "kept": 1 }, "more": "x" }
        ));
        assert!(same_as_of_bson::<Tagged>(
            &rawdoc! { "of": "A", "kept": 1, "more": "x" }
        ));
        assert!(same_as_of_bson::<Untagged>(
            &rawdoc! { "kept": 1, "more": "x" }
        ));
    }

    #[test]
    fn errors_are_those_of_bson() {
        for document in [
            rawdoc! {},
            rawdoc! { "kept": "1" },
            rawdoc! { "kept": { "a": 1 } },
            rawdoc! { "kept": 1, "kept": 2 },
        ] {
            assert!(!same_as_of_bson::<Kept>(&document), "{document:?}");
        }
        assert!(!same_as_of_bson::<()>(&rawdoc! {}));
        assert!(!same_as_of_bson::<Strict>(
            &rawdoc! { "kept": 1, "more": "x" }
        ));
    }

    #[test]
    fn a_value_that_is_ignored_is_not_looked_into() {
        let document = rawdoc! { "ignored": "??", "kept": 1 };
        let no_text = document.as_bytes().iter().map(|byte| match byte {
            b'?' => 0xFF,
            byte => *byte,
        });
        let no_text: Vec<_> = no_text.collect();
        assert_eq!(from_document::<Kept>(&no_text).ok(), Some(Kept { kept: 1 }));
    }
}
