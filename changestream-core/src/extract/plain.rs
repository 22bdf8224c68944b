//! What bson shows of a value to a type that takes any, as plain values: of a date, a document with text. So structs are compiled for one
//! deserializer, and not for each that bson has for such a value, which was close to half of what a handler takes to compile.

use std::fmt;

use bson::{Binary, RawArrayBuf, RawBson, RawDocumentBuf, raw::CString, spec::BinarySubtype};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A document of numbers, text, true, false, null, generic binary, documents and arrays.
pub(super) struct PlainDocument(pub(super) RawDocumentBuf);

impl<'de> Deserialize<'de> for PlainDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Plain::deserialize(deserializer)? {
            Plain(RawBson::Document(document)) => Ok(Self(document)),
            Plain(_) => Err(Error::custom("expected what bson shows as a document")),
        }
    }
}

struct Plain(RawBson);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Recorder).map(Self)
    }
}

struct Recorder;

impl<'de> Visitor<'de> for Recorder {
    type Value = RawBson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of BSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<RawBson, E> {
        Ok(RawBson::Boolean(value))
    }

    fn visit_i32<E: Error>(self, value: i32) -> Result<RawBson, E> {
        Ok(RawBson::Int32(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<RawBson, E> {
        Ok(RawBson::Int64(value))
    }

    fn visit_u32<E: Error>(self, value: u32) -> Result<RawBson, E> {
        Ok(i32::try_from(value).map_or(RawBson::Int64(value.into()), RawBson::Int32))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<RawBson, E> {
        Ok(RawBson::Double(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<RawBson, E> {
        Ok(RawBson::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<RawBson, E> {
        Ok(RawBson::String(value))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<RawBson, E> {
        Ok(RawBson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: value.to_owned(),
        }))
    }

    fn visit_unit<E: Error>(self) -> Result<RawBson, E> {
        Ok(RawBson::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<RawBson, A::Error> {
        let mut array = RawArrayBuf::new();
        while let Some(Plain(value)) = values.next_element()? {
            array.push(value);
        }
        Ok(RawBson::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<RawBson, A::Error> {
        let mut document = RawDocumentBuf::new();
        while let Some((name, Plain(value))) = fields.next_entry::<String, _>()? {
            document.append(CString::try_from(name).map_err(Error::custom)?, value);
        }
        Ok(RawBson::Document(document))
    }
}
