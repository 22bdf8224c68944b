//! Asks a type which fields it reads, by letting it deserialize from a document of one field that it cannot know.
//!
//! A derived struct says its names, renamed ones and aliases included, before it reads anything. What it makes of
//! the unknown field shows whether it does without the fields that it does not name.

#[cfg(test)]
mod tests;

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
    forward_to_deserialize_any,
};

use super::document::is_order_to_bson;

/// The names of all top-level fields of a document that `T` looks at; `None` where they are not known.
///
/// They are known of structs with a derived `Deserialize`, of newtypes and `Option`s of those, and of what
/// deserializes by way of one. A struct with `flatten` takes every field, one with `deny_unknown_fields` objects to
/// some, and of an adjacently tagged enum the order of the fields counts.
pub(super) fn fields<'de, T: Deserialize<'de>>() -> Option<&'static [&'static str]> {
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
        match is_order_to_bson(name) {
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
