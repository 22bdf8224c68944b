//! Asks a type which fields it reads, by letting it deserialize from a document of one field that it cannot know.
//!
//! A derived struct says its names, renamed ones and aliases included, before it reads anything. What it makes of
//! the unknown field shows whether it does without the fields that it does not name.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, MapAccess, Visitor},
    forward_to_deserialize_any,
};

/// The names of all top-level fields of a document that `T` looks at; `None` where they are not known.
///
/// They are known of structs with a derived `Deserialize`, of newtypes and `Option`s of those, and of what
/// deserializes by way of one. A struct with `flatten` takes every field, one with `deny_unknown_fields` objects to
/// some, and of an adjacently tagged enum the order of the fields counts.
pub(super) fn fields<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    match T::deserialize(Probe) {
        Err(Answer::Fields(fields)) => Some(fields),
        _ => None,
    }
}

/// What the probing ends with, as the error that stops the type.
#[derive(Debug)]
enum Answer {
    Fields(&'static [&'static str]),
    Unknown,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only a probe")
    }
}

impl std::error::Error for Answer {}

impl Error for Answer {
    fn custom<M: fmt::Display>(_message: M) -> Self {
        Self::Unknown
    }
}

/// Stands for the document.
struct Probe;

impl<'de> Deserializer<'de> for Probe {
    type Error = Answer;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Answer> {
        Err(Answer::Unknown)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Answer> {
        Err(Answer::Fields(&[]))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Answer> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Answer> {
        // To `bson`, such a name is an order to decode in another way.
        match name.starts_with('$') {
            true => Err(Answer::Unknown),
            false => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Answer> {
        // An enum may come here too: serde derives it as an "adjacently tagged enum".
        match Expecting(&visitor, PhantomData)
            .to_string()
            .starts_with("struct ")
        {
            true => visitor.visit_map(Document::Unread { fields }),
            false => Err(Answer::Unknown),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier
    }
}

/// What a visitor says that it expects.
struct Expecting<'a, 'de, V>(&'a V, PhantomData<&'de ()>);

impl<'de, V: Visitor<'de>> fmt::Display for Expecting<'_, 'de, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

/// The document, whose only field has a name that no field of BSON can have.
enum Document {
    Unread { fields: &'static [&'static str] },
    KeyRead { fields: &'static [&'static str] },
    Ignored { fields: &'static [&'static str] },
}

const UNKNOWN_KEY: &str = "\0";

impl<'de> MapAccess<'de> for Document {
    type Error = Answer;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Answer> {
        match *self {
            Self::Unread { fields } => {
                let key = seed.deserialize(Key)?;
                *self = Self::KeyRead { fields };
                Ok(Some(key))
            }
            Self::KeyRead { .. } => Err(Answer::Unknown),
            Self::Ignored { fields } => Err(Answer::Fields(fields)),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Answer> {
        let Self::KeyRead { fields } = *self else {
            return Err(Answer::Unknown);
        };
        let value = seed.deserialize(Value)?;
        *self = Self::Ignored { fields };
        Ok(value)
    }
}

/// Is taken as the name of a field only.
struct Key;

impl<'de> Deserializer<'de> for Key {
    type Error = Answer;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Answer> {
        Err(Answer::Unknown)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Answer> {
        visitor.visit_borrowed_str(UNKNOWN_KEY)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum ignored_any
    }
}

/// Can be ignored only.
struct Value;

impl<'de> Deserializer<'de> for Value {
    type Error = Answer;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Answer> {
        Err(Answer::Unknown)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Answer> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bson::{Bson, RawDocumentBuf, oid::ObjectId};
    use serde::{Deserialize, de::IgnoredAny};

    use super::*;

    macro_rules! types {
        ($($item:item)*) => {$(
            #[derive(Default, Deserialize)]
            #[allow(dead_code)]
            $item
        )*};
    }

    types! {
        struct Plain {
            status: String,
            total: Option<f64>,
            nested: HashMap<String, i32>,
        }

        #[serde(rename = "Order", rename_all = "camelCase", default)]
        struct Named {
            #[serde(rename = "_id")]
            id: i32,
            #[serde(alias = "former", alias = "older")]
            unit_price: f64,
            #[serde(skip)]
            skipped: i32,
            #[serde(skip_serializing)]
            read_only: i32,
            #[serde(deserialize_with = "at")]
            at: i64,
        }

        struct Newtype(Plain);

        #[serde(transparent)]
        struct Transparent {
            inner: Plain,
        }

        struct Flattened {
            status: String,
            #[serde(flatten)]
            rest: HashMap<String, i32>,
        }

        #[serde(deny_unknown_fields)]
        struct Strict {
            status: String,
        }

        #[serde(deny_unknown_fields)]
        struct StrictAndEmpty {}

        struct Empty {}

        struct Unit;

        struct Pair(i32, i32);

        #[serde(from = "Plain")]
        struct FromPlain {
            status: String,
        }

        #[serde(try_from = "Flattened")]
        struct FromFlattened {
            status: String,
        }

        #[serde(expecting = "what is no order")]
        struct Expects {
            status: String,
        }

        struct Generic<T> {
            value: T,
        }
    }

    fn at<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        bson::DateTime::deserialize(deserializer).map(bson::DateTime::timestamp_millis)
    }

    impl From<Plain> for FromPlain {
        fn from(Plain { status, .. }: Plain) -> Self {
            Self { status }
        }
    }

    impl From<Flattened> for FromFlattened {
        fn from(Flattened { status, .. }: Flattened) -> Self {
            Self { status }
        }
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Tagged {
        A { status: String },
    }

    #[derive(Deserialize)]
    #[serde(tag = "type")]
    #[allow(dead_code)]
    enum TaggedInside {
        A { status: String },
    }

    #[derive(Deserialize)]
    #[serde(tag = "type", content = "value")]
    #[allow(dead_code)]
    enum TaggedBeside {
        A { status: String },
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Untagged {
        A(Plain),
    }

    /// By hand, and reads more than it says.
    struct Greedy;

    impl<'de> Deserialize<'de> for Greedy {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Fields;

            impl<'de> Visitor<'de> for Fields {
                type Value = Greedy;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("struct Greedy")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Greedy, A::Error> {
                    while map.next_entry::<Name, Bson>()?.is_some() {}
                    Ok(Greedy)
                }
            }

            struct Name;

            impl<'de> Deserialize<'de> for Name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    deserializer
                        .deserialize_identifier(IgnoredAny)
                        .map(|_| Self)
                }
            }

            deserializer.deserialize_struct("Greedy", &["status"], Fields)
        }
    }

    const PLAIN: Option<&[&str]> = Some(&["status", "total", "nested"]);

    #[test]
    fn a_struct_names_its_fields_as_they_are_in_documents() {
        assert_eq!(fields::<Plain>(), PLAIN);
        let mut named = fields::<Named>().expect("they are known").to_vec();
        named.sort_unstable();
        assert_eq!(
            named,
            ["_id", "at", "former", "older", "readOnly", "unitPrice"]
        );
        assert_eq!(fields::<Empty>(), Some(&[][..]));
        assert_eq!(fields::<Generic<Bson>>(), Some(&["value"][..]));
    }

    #[test]
    fn what_holds_a_struct_and_nothing_else_has_its_fields() {
        assert_eq!(fields::<Newtype>(), PLAIN);
        assert_eq!(fields::<Transparent>(), PLAIN);
        assert_eq!(fields::<Option<Box<Plain>>>(), PLAIN);
        assert_eq!(fields::<FromPlain>(), PLAIN);
        assert_eq!(fields::<IgnoredAny>(), Some(&[][..]));
    }

    #[test]
    fn what_looks_at_every_field_names_none() {
        assert_eq!(fields::<Flattened>(), None);
        assert_eq!(fields::<FromFlattened>(), None);
        assert_eq!(fields::<bson::Document>(), None);
        assert_eq!(fields::<RawDocumentBuf>(), None);
        assert_eq!(fields::<Bson>(), None);
        assert_eq!(fields::<HashMap<String, Bson>>(), None);
        assert_eq!(fields::<bson::serde_helpers::HumanReadable<Plain>>(), None);
        assert_eq!(fields::<Greedy>(), None);
    }

    #[test]
    fn what_refuses_unknown_fields_gets_them() {
        assert_eq!(fields::<Strict>(), None);
        assert_eq!(fields::<StrictAndEmpty>(), None);
    }

    #[test]
    fn what_is_no_struct_of_fields_names_none() {
        assert_eq!(fields::<Tagged>(), None);
        assert_eq!(fields::<TaggedInside>(), None);
        assert_eq!(fields::<TaggedBeside>(), None);
        assert_eq!(fields::<Untagged>(), None);
        assert_eq!(fields::<Pair>(), None);
        assert_eq!(fields::<Unit>(), None);
        assert_eq!(fields::<()>(), None);
        assert_eq!(fields::<i32>(), None);
        assert_eq!(fields::<ObjectId>(), None);
        assert_eq!(fields::<bson::Timestamp>(), None);
        assert_eq!(fields::<Expects>(), None);
    }
}
