//! Decodes a document to a type. What bson's deserializer makes of each value is what the type gets, but it is asked only for those that
//! are not plain: to find a field, it looks at the text of all names before it, which is most of the work where a struct has few of
//! the fields, and it looks into the values that are ignored.
//!
//! Documents within the document are bson's, and so is the whole where serde asks for any field (`flatten`).

use std::{fmt, mem};

use bson::{RawBsonRef, RawDeserializer, error::Error};
use serde::{
    de::{
        DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess,
        Visitor, value::BorrowedStrDeserializer,
    },
    forward_to_deserialize_any,
};

use crate::bson_walk::{Field, Fields};

pub(super) fn from_document<T: DeserializeOwned>(document: &[u8]) -> Result<T, Error> {
    let bson = RawDeserializer::new(document)?;
    T::deserialize(Whole { document, bson })
}

/// Deserializes a document.
struct Whole<'de> {
    document: &'de [u8],
    bson: RawDeserializer<'de>,
}

impl<'de> Deserializer<'de> for Whole<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.bson.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let document = self.document;
        let visitor = OfStruct { document, visitor };
        self.bson.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match is_of_bson(name) {
            true => self.bson.deserialize_newtype_struct(name, visitor),
            false => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.bson.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.bson.is_human_readable()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// Whether bson tells a type of its own by this name.
fn is_of_bson(name: &str) -> bool {
    name.starts_with('$')
}

/// Takes the fields of a document, which is all that a whole document is.
struct OfStruct<'de, V> {
    document: &'de [u8],
    visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OfStruct<'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, bson: A) -> Result<V::Value, A::Error> {
        let fields = Fields::of(self.document).map_err(A::Error::custom)?;
        self.visitor.visit_map(OfFields {
            document: self.document,
            fields,
            field: None,
            bson: Behind {
                access: bson,
                by: 0,
            },
        })
    }
}

struct OfFields<'de, A> {
    document: &'de [u8],
    fields: Fields<'de>,
    /// The one whose name was told last.
    field: Option<Field<'de>>,
    bson: Behind<A>,
}

/// What bson has of the same fields, and how many of them it has not come to yet.
struct Behind<A> {
    access: A,
    by: usize,
}

impl<'de, A: MapAccess<'de>> Behind<A> {
    /// Has bson deserialize the value of the field that was come to last.
    fn value<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        for _ in 0..mem::take(&mut self.by) {
            self.access.next_key::<IgnoredAny>()?;
        }
        self.access.next_value_seed(seed)
    }
}

impl<'de, A: MapAccess<'de>> OfFields<'de, A> {
    fn next_name(&mut self) -> Result<Option<&'de str>, A::Error> {
        let Some(field) = self.fields.next() else {
            return Ok(None);
        };
        let field = field.map_err(A::Error::custom)?;
        let name = str::from_utf8(field.name).map_err(A::Error::custom)?;
        self.bson.by += 1;
        self.field = Some(field);
        Ok(Some(name))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for OfFields<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let name = self.next_name()?.map(BorrowedStrDeserializer::new);
        name.map(|name| seed.deserialize(name)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let field = self.field.take();
        seed.deserialize(Value {
            document: self.document,
            field: field.ok_or_else(|| A::Error::custom("a value is asked for before its name"))?,
            bson: &mut self.bson,
        })
    }
}

/// Deserializes a field's value.
struct Value<'a, 'de, A> {
    document: &'de [u8],
    field: Field<'de>,
    bson: &'a mut Behind<A>,
}

impl<'de, A> Value<'_, 'de, A> {
    fn plain(&self) -> Option<RawBsonRef<'de>> {
        self.field.plain(self.document)
    }
}

/// Calls of bson's deserializer, one type for each: what is not called is not compiled.
macro_rules! calls {
    ($($call:ident($($name:ident: $kind:ty),*) $method:ident)*) => {$(
        struct $call<V> {
            $($name: $kind,)*
            visitor: V,
        }

        impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for $call<V> {
            type Value = V::Value;

            fn deserialize<D: Deserializer<'de>>(self, bson: D) -> Result<V::Value, D::Error> {
                bson.$method($(self.$name,)* self.visitor)
            }
        }
    )*};
}

calls! {
    Any() deserialize_any
    Bytes() deserialize_bytes
    Newtype(name: &'static str) deserialize_newtype_struct
    Enum(name: &'static str, variants: &'static [&'static str]) deserialize_enum
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Value<'_, 'de, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        match self.plain() {
            Some(RawBsonRef::Int32(value)) => visitor.visit_i32(value),
            Some(RawBsonRef::Int64(value)) => visitor.visit_i64(value),
            Some(RawBsonRef::Double(value)) => visitor.visit_f64(value),
            Some(RawBsonRef::Boolean(value)) => visitor.visit_bool(value),
            Some(RawBsonRef::String(value)) => visitor.visit_borrowed_str(value),
            Some(RawBsonRef::Null) => visitor.visit_unit(),
            _ => self.bson.value(Any { visitor }),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        self.bson.value(Bytes { visitor })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        match self.plain() {
            Some(RawBsonRef::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        match is_of_bson(name) {
            true => self.bson.value(Newtype { name, visitor }),
            false => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        match self.plain() {
            Some(RawBsonRef::String(variant)) => {
                visitor.visit_enum(BorrowedStrDeserializer::new(variant))
            }
            _ => self.bson.value(Enum {
                name,
                variants,
                visitor,
            }),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier
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

    /// The same, with bytes that are no text where there are question marks.
    fn malformed(document: &RawDocumentBuf) -> RawDocumentBuf {
        let bytes = document.as_bytes().iter().map(|byte| match byte {
            b'?' => 0xFF,
            byte => *byte,
        });
        RawDocumentBuf::from_bytes(bytes.collect()).expect("a document")
    }

    #[test]
    fn what_is_malformed_is_an_error_where_it_is_wanted() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Text {
            kept: String,
        }

        #[derive(Debug, Deserialize, PartialEq)]
        struct Flag {
            kept: bool,
        }

        let text = malformed(&rawdoc! { "ignored": 1, "kept": "??" });
        assert!(!same_as_of_bson::<Text>(&text));
        let mut flag = rawdoc! { "kept": true }.into_bytes();
        let value = flag.len() - 2;
        flag[value] = 2;
        let flag = RawDocumentBuf::from_bytes(flag).expect("a document");
        assert!(!same_as_of_bson::<Flag>(&flag));
        let name = malformed(&rawdoc! { "??": 1, "kept": 1 });
        assert!(from_document::<Kept>(name.as_bytes()).is_err());
    }

    #[test]
    fn a_value_that_is_ignored_is_not_looked_into() {
        let no_text = malformed(&rawdoc! { "ignored": "??", "kept": 1 });
        let decoded = from_document::<Kept>(no_text.as_bytes());
        assert_eq!(decoded.ok(), Some(Kept { kept: 1 }));
    }
}
