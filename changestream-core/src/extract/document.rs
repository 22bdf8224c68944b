//! Decodes a document to a type, as bson does. The fields are walked over by this crate, which is cheaper, and the values that are ignored
//! are not looked into; bson is asked for those that are not plain.

use std::{fmt, marker::PhantomData, ops::Range};

use bson::{DateTime, RawBsonRef, RawDeserializer, error::Error};
use bumpalo::Bump;
use serde::{
    de::{
        Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, IntoDeserializer,
        MapAccess, SeqAccess, Visitor, value::BorrowedStrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::plain::PlainDocument;
use crate::bson_walk::{ARRAY, DOCUMENT, Field, Fields, NULL, OBJECT_ID, STRING};

/// In `made` are the values that are made on the way.
pub(super) fn from_document<'de, T: Deserialize<'de>>(
    document: &'de [u8],
    made: &'de Bump,
) -> Result<T, Error> {
    let whole = Field {
        element_type: DOCUMENT,
        name: b"",
        value: 0..document.len(),
    };
    T::deserialize(Value {
        bytes: document,
        field: &whole,
        made,
    })
}

/// Whether this name of a type is an order to bson to decode in another way.
pub(super) fn is_order_to_bson(name: &str) -> bool {
    name.starts_with('$')
}

/// Deserializes the value of a field, which is within `bytes`.
#[derive(Clone, Copy)]
struct Value<'a, 'de> {
    bytes: &'de [u8],
    field: &'a Field<'de>,
    /// What is made for bson and of what it shows, which has to last as long as the document.
    made: &'de Bump,
}

impl<'de> Value<'_, 'de> {
    fn as_bytes(self) -> &'de [u8] {
        &self.bytes[self.field.value.clone()]
    }

    /// What is in a document or an array.
    fn parts(self) -> Result<Parts<'de>, Error> {
        Parts::within(self.bytes, self.field.value.clone(), self.made)
    }

    /// Has bson deserialize it.
    fn of_bson<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        match self.field.element_type {
            DOCUMENT => seed.deserialize(RawDeserializer::new(self.as_bytes())?),
            _ => RawDeserializer::new(self.alone())?.deserialize_any(First(seed)),
        }
    }

    /// What bson shows of a value that is not plain, of which this was read.
    fn shown(self, read: Option<RawBsonRef<'de>>) -> Result<Shown<'de>, Error> {
        let parts = match read {
            Some(RawBsonRef::Binary(value)) => return Ok(Shown::Bytes(value.bytes)),
            Some(RawBsonRef::DateTime(value)) => self.date_in_plain(value)?,
            _ => {
                let PlainDocument(document) = self.of_bson(PhantomData)?;
                let document = self.made.alloc_slice_copy(document.as_bytes());
                Parts::within(document, 0..document.len(), self.made)?
            }
        };
        Ok(Shown::Fields(parts))
    }

    /// A date, the most common of such values, as bson shows it. It takes less than to ask bson.
    fn date_in_plain(self, date: DateTime) -> Result<Parts<'de>, Error> {
        let millis = date.timestamp_millis().to_string();
        let length = (millis.len() as i32 + 1).to_le_bytes();
        let text = [&length, millis.as_bytes(), b"\0"].concat();
        let number = document_of(STRING, b"$numberLong", &text, self.made);
        let document = document_of(DOCUMENT, b"$date", number, self.made);
        Parts::within(document, 0..document.len(), self.made)
    }

    /// A document of this field and no other.
    fn alone(self) -> &'de [u8] {
        let Field {
            element_type, name, ..
        } = *self.field;
        document_of(element_type, name, self.as_bytes(), self.made)
    }
}

enum Shown<'de> {
    Bytes(&'de [u8]),
    Fields(Parts<'de>),
}

/// A document of one field.
fn document_of<'de>(element_type: u8, name: &[u8], value: &[u8], made: &'de Bump) -> &'de [u8] {
    let length = 4 + 1 + name.len() + 1 + value.len() + 1;
    let document = made.alloc_slice_fill_copy(length, 0);
    document[..4].copy_from_slice(&(length as i32).to_le_bytes());
    document[4] = element_type;
    document[5..][..name.len()].copy_from_slice(name);
    document[5 + name.len() + 1..length - 1].copy_from_slice(value);
    document
}

/// Takes the value of a document's first field.
struct First<S>(S);

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for First<S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<S::Value, A::Error> {
        fields.next_key::<IgnoredAny>()?;
        fields.next_value_seed(self.0)
    }
}

/// What bson's deserializer is called with.
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
    Newtype(name: &'static str) deserialize_newtype_struct
    Enum(name: &'static str, variants: &'static [&'static str]) deserialize_enum
}

impl<'de> Deserializer<'de> for Value<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.field.element_type {
            DOCUMENT => return visitor.visit_map(self.parts()?),
            ARRAY => return visitor.visit_seq(self.parts()?),
            _ => {}
        }
        match self.field.read(self.bytes) {
            Some(RawBsonRef::Int32(value)) => visitor.visit_i32(value),
            Some(RawBsonRef::Int64(value)) => visitor.visit_i64(value),
            Some(RawBsonRef::Double(value)) => visitor.visit_f64(value),
            Some(RawBsonRef::Boolean(value)) => visitor.visit_bool(value),
            Some(RawBsonRef::String(value)) => visitor.visit_borrowed_str(value),
            Some(RawBsonRef::Null) => visitor.visit_unit(),
            read => match self.shown(read)? {
                Shown::Bytes(value) => visitor.visit_borrowed_bytes(value),
                Shown::Fields(parts) => visitor.visit_map(parts),
            },
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.field.element_type {
            OBJECT_ID => visitor.visit_borrowed_bytes(self.as_bytes()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.field.element_type {
            NULL => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match is_order_to_bson(name) {
            true => self.of_bson(Newtype { name, visitor }),
            false => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.field.read(self.bytes) {
            Some(RawBsonRef::String(variant)) => visitor.visit_enum(variant.into_deserializer()),
            _ => self.of_bson(Enum {
                name,
                variants,
                visitor,
            }),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
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

/// What is in a document or an array.
struct Parts<'de> {
    bytes: &'de [u8],
    fields: Fields<'de>,
    /// The one that was come to last.
    field: Option<Field<'de>>,
    made: &'de Bump,
}

impl<'de> Parts<'de> {
    /// Of the document, or the array, at `place` in `bytes`.
    fn within(bytes: &'de [u8], place: Range<usize>, made: &'de Bump) -> Result<Self, Error> {
        Ok(Self {
            bytes,
            fields: Fields::within(bytes, place)?,
            field: None,
            made,
        })
    }

    #[inline]
    fn next(&mut self) -> Result<Option<&Field<'de>>, Error> {
        self.field = match self.fields.next() {
            Some(Ok(field)) => Some(field),
            Some(Err(malformed)) => return Err(malformed.into()),
            None => None,
        };
        Ok(self.field.as_ref())
    }

    fn value(&self) -> Option<Value<'_, 'de>> {
        self.field.as_ref().map(|field| Value {
            bytes: self.bytes,
            field,
            made: self.made,
        })
    }
}

impl<'de> MapAccess<'de> for Parts<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let name = self.next()?.map(|field| str::from_utf8(field.name));
        let name = name.transpose().map_err(Error::custom)?;
        let name = name.map(BorrowedStrDeserializer::new);
        name.map(|name| seed.deserialize(name)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.value();
        let value = value.ok_or_else(|| Error::custom("there is no field to take the value of"))?;
        seed.deserialize(value)
    }
}

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next()?;
        self.value()
            .map(|value| seed.deserialize(value))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Debug};

    use bson::{
        Binary, Bson, Decimal128, Document, JavaScriptCodeWithScope, RawBson, RawDocumentBuf,
        Regex, Timestamp, Uuid, cstr, doc, oid::ObjectId, rawdoc, serde_helpers::HumanReadable,
        spec::BinarySubtype,
    };
    use serde::{
        Deserialize,
        de::{DeserializeOwned, IgnoredAny},
    };

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

    #[derive(Debug, Deserialize, PartialEq)]
    struct Of<T> {
        value: T,
    }

    /// The values of every second field, each taken twice.
    #[derive(Debug, PartialEq)]
    struct Seconds(Vec<Bson>);

    impl<'de> Deserialize<'de> for Seconds {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Taken;

            impl<'de> Visitor<'de> for Taken {
                type Value = Seconds;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a document")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seconds, A::Error> {
                    let mut taken = Vec::new();
                    while map.next_key::<IgnoredAny>()?.is_some()
                        && map.next_key::<IgnoredAny>()?.is_some()
                    {
                        taken.extend([map.next_value()?, map.next_value()?]);
                    }
                    Ok(Seconds(taken))
                }
            }

            deserializer.deserialize_struct("Seconds", &[], Taken)
        }
    }

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

    /// What a type is shown that takes any.
    #[derive(Debug, PartialEq)]
    struct Any(String);

    impl<'de> Deserialize<'de> for Any {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Taken;

            macro_rules! shown {
                ($($visit:ident: $kind:ty,)*) => {
                    $(fn $visit<E>(self, value: $kind) -> Result<Any, E> {
                        Ok(Any(format!("{value:?}")))
                    })*
                };
            }

            impl<'de> Visitor<'de> for Taken {
                type Value = Any;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("anything")
                }

                shown! {
                    visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str,
                    visit_bytes: &[u8],
                }

                fn visit_unit<E>(self) -> Result<Any, E> {
                    Ok(Any("null".into()))
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Any, A::Error> {
                    let mut values = Vec::new();
                    while let Some(Any(value)) = seq.next_element()? {
                        values.push(value);
                    }
                    Ok(Any(format!("[{}]", values.join(", "))))
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
                    let mut fields = Vec::new();
                    while let Some((name, Any(value))) = map.next_entry::<String, _>()? {
                        fields.push(format!("{name}: {value}"));
                    }
                    Ok(Any(format!("{{{}}}", fields.join(", "))))
                }
            }

            deserializer.deserialize_any(Taken)
        }
    }

    fn owned<T: DeserializeOwned>(document: &[u8]) -> Result<T, Error> {
        from_document(document, &Bump::new())
    }

    fn same_as_of_bson<T: DeserializeOwned + Debug + PartialEq>(document: &RawDocumentBuf) -> bool {
        let bytes = document.as_bytes();
        let ours = owned::<T>(bytes).map_err(|error| error.to_string());
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
        assert!(same_as_of_bson::<Seconds>(&all()));
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
    fn a_type_that_takes_any_is_shown_what_bson_shows() {
        let scope = doc! { "double": 1.5, "flag": true, "null": null, "at": DateTime::from_millis(1), "list": [1, 2_i64, "x"] };
        let values = [
            Bson::ObjectId(ObjectId::from_bytes([7; 12])),
            Bson::DateTime(DateTime::from_millis(0)),
            Bson::DateTime(DateTime::MIN),
            Bson::DateTime(DateTime::MAX),
            Bson::Decimal128(Decimal128::from_bytes([1; 16])),
            Bson::Timestamp(Timestamp {
                time: u32::MAX,
                increment: 2,
            }),
            Bson::Binary(Binary {
                subtype: BinarySubtype::Generic,
                bytes: vec![1, 2],
            }),
            Bson::Binary(Binary {
                subtype: BinarySubtype::Generic,
                bytes: vec![],
            }),
            Bson::Binary(Binary {
                subtype: BinarySubtype::BinaryOld,
                bytes: vec![1, 2],
            }),
            Bson::Binary(Binary {
                subtype: BinarySubtype::Uuid,
                bytes: vec![3; 16],
            }),
            Bson::RegularExpression(Regex {
                pattern: cstr!("a.b").into(),
                options: cstr!("i").into(),
            }),
            Bson::JavaScriptCode("1".into()),
            Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code: "1".into(),
                scope,
            }),
            Bson::Symbol("s".into()),
            Bson::Undefined,
            Bson::MinKey,
            Bson::MaxKey,
        ];
        for value in values {
            let document = doc! { "value": value };
            let document = RawDocumentBuf::try_from(&document).expect("a document");
            assert!(same_as_of_bson::<Of<Any>>(&document), "{document:?}");
            assert!(same_as_of_bson::<Of<Bson>>(&document), "{document:?}");
            assert!(!same_as_of_bson::<Of<Kept>>(&document), "{document:?}");
        }
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
        let number = rawdoc! { "ignored": 1, "value": 1 };
        assert!(!same_as_of_bson::<Of<DateTime>>(&number));
        assert!(!same_as_of_bson::<Of<Uuid>>(&number));
        assert!(!same_as_of_bson::<Of<Kind>>(&number));
        assert!(!same_as_of_bson::<Of<ObjectId>>(&number));
        assert!(!same_as_of_bson::<Of<RawDocumentBuf>>(&number));
        assert!(!same_as_of_bson::<()>(&rawdoc! {}));
        assert!(!same_as_of_bson::<Strict>(
            &rawdoc! { "kept": 1, "more": "x" }
        ));
    }

    /// `document`, with a byte that is no text in place of each question mark.
    fn malformed(document: &RawDocumentBuf) -> RawDocumentBuf {
        let bytes = document.as_bytes().iter().map(|byte| match byte {
            b'?' => 0xFF,
            byte => *byte,
        });
        RawDocumentBuf::from_bytes(bytes.collect()).expect("a document")
    }

    #[test]
    fn what_is_malformed_is_an_error_where_it_is_wanted() {
        let text = malformed(&rawdoc! { "ignored": 1, "value": "??" });
        assert!(!same_as_of_bson::<Of<String>>(&text));
        let mut flag = rawdoc! { "value": true }.into_bytes();
        let value = flag.len() - 2;
        flag[value] = 2;
        let flag = RawDocumentBuf::from_bytes(flag).expect("a document");
        assert!(!same_as_of_bson::<Of<bool>>(&flag));
        let name = malformed(&rawdoc! { "??": 1, "kept": 1 });
        assert!(owned::<Kept>(name.as_bytes()).is_err());
    }

    #[test]
    fn a_value_that_is_ignored_is_not_looked_into() {
        let document = malformed(&rawdoc! {
            "ignored": "??", "value": [{ "ignored": ["??"], "kept": 1 }],
        });
        let decoded = owned::<Of<Vec<Kept>>>(document.as_bytes());
        let value = vec![Kept { kept: 1 }];
        assert_eq!(decoded.ok(), Some(Of { value }));
    }
}
