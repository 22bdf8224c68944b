//! A walk over the fields of raw BSON that reads no more than where each begins and ends (*BSON Specification*, version 1.1).
//!
//! `bson`'s own looks into every name and value on the way, which is most of the cost of an event that nobody reads whole.

use std::ops::Range;

use bson::{
    DateTime, RawBinaryRef, RawBsonRef, RawDocument, error::Error, oid::ObjectId,
    spec::BinarySubtype,
};
use serde::de::Error as _;

const DOUBLE: u8 = 0x01;
pub(crate) const STRING: u8 = 0x02;
pub(crate) const DOCUMENT: u8 = 0x03;
pub(crate) const ARRAY: u8 = 0x04;
const BINARY: u8 = 0x05;
pub(crate) const OBJECT_ID: u8 = 0x07;
const BOOLEAN: u8 = 0x08;
pub(crate) const DATE_TIME: u8 = 0x09;
pub(crate) const NULL: u8 = 0x0A;
const INT32: u8 = 0x10;
pub(crate) const TIMESTAMP: u8 = 0x11;
const INT64: u8 = 0x12;

/// Binary of no particular subtype.
const GENERIC: u8 = 0x00;

/// What is at this byte is no BSON.
#[derive(Debug, thiserror::Error)]
#[error("no BSON at byte {at}")]
pub(crate) struct Malformed {
    at: usize,
}

impl From<Malformed> for Error {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        Self::custom(malformed)
    }
}

/// One field of a document.
pub(crate) struct Field<'a> {
    pub(crate) element_type: u8,
    pub(crate) name: &'a [u8],
    /// Where its value is among the bytes that are walked over.
    pub(crate) value: Range<usize>,
}

impl Field<'_> {
    /// Its value, among the `bytes` that were walked over, if it is well-formed and of one of the common types.
    pub(crate) fn read<'a>(&self, bytes: &'a [u8]) -> Option<RawBsonRef<'a>> {
        let value = bytes.get(self.value.clone())?;
        Some(match self.element_type {
            DOUBLE => RawBsonRef::Double(f64::from_le_bytes(value.try_into().ok()?)),
            STRING => RawBsonRef::String(str::from_utf8(&value[4..value.len() - 1]).ok()?),
            DOCUMENT => RawBsonRef::Document(RawDocument::from_bytes(value).ok()?),
            BINARY => match value {
                [_, _, _, _, GENERIC, bytes @ ..] => RawBsonRef::Binary(RawBinaryRef {
                    subtype: BinarySubtype::Generic,
                    bytes,
                }),
                _ => return None,
            },
            OBJECT_ID => RawBsonRef::ObjectId(ObjectId::from_bytes(value.try_into().ok()?)),
            BOOLEAN => match value {
                [0] => RawBsonRef::Boolean(false),
                [1] => RawBsonRef::Boolean(true),
                _ => return None,
            },
            DATE_TIME => RawBsonRef::DateTime(DateTime::from_millis(i64::from_le_bytes(
                value.try_into().ok()?,
            ))),
            NULL => RawBsonRef::Null,
            INT32 => RawBsonRef::Int32(i32::from_le_bytes(value.try_into().ok()?)),
            INT64 => RawBsonRef::Int64(i64::from_le_bytes(value.try_into().ok()?)),
            _ => return None,
        })
    }
}

/// The fields of a document that lies within other bytes.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// Of the document that is all of `bytes`.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::within(bytes, 0..bytes.len())
    }

    /// Of the document, or the array, at `place` in `bytes`.
    pub(crate) fn within(bytes: &'a [u8], place: Range<usize>) -> Result<Self, Malformed> {
        let is_whole = document_end(bytes, place.start) == Some(place.end);
        match is_whole {
            true => Ok(Self {
                bytes,
                at: place.start + 4,
                end: place.end - 1,
            }),
            false => Err(Malformed { at: place.start }),
        }
    }

    #[inline]
    fn field(&mut self) -> Option<Field<'a>> {
        let rest = &self.bytes[self.at..self.end];
        let (element_type, rest) = rest.split_first()?;
        let length = zero_in(rest)?;
        let begin = self.at + 1 + length + 1;
        let end = value_end(&self.bytes[..self.end], *element_type, begin)?;
        self.at = end;
        Some(Field {
            element_type: *element_type,
            name: &rest[..length],
            value: begin..end,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.end {
            return None;
        }
        let at = self.at;
        let field = self.field();
        if field.is_none() {
            self.at = self.end;
        }
        Some(field.ok_or(Malformed { at }))
    }
}

/// The value of a field of `document`.
pub(crate) fn get<'a>(document: &'a RawDocument, name: &str) -> Option<RawBsonRef<'a>> {
    let bytes = document.as_bytes();
    let mut fields = Fields::of(bytes).ok()?.map_while(Result::ok);
    let field = fields.find(|field| field.name == name.as_bytes())?;
    let value = field.read(bytes);
    value.or_else(|| document.get(name).ok().flatten())
}

/// Where the value that begins at `at` ends; `None` where that is not within `bytes`.
fn value_end(bytes: &[u8], element_type: u8, at: usize) -> Option<usize> {
    let length = match element_type {
        NULL => 0,
        // Undefined, and the keys before and after all others.
        0x06 | 0x7F | 0xFF => 0,
        BOOLEAN => 1,
        INT32 => 4,
        DOUBLE | DATE_TIME | TIMESTAMP | INT64 => 8,
        OBJECT_ID => 12,
        // A 128-bit decimal.
        0x13 => 16,
        // A string, code, a symbol.
        STRING | 0x0D | 0x0E => return string_end(bytes, at),
        // With its subtype.
        BINARY => length(bytes, at)?.checked_add(5)?,
        // A pointer: a string and an object id.
        0x0C => length(bytes, at)?.checked_add(16)?,
        DOCUMENT | ARRAY => return document_end(bytes, at),
        // Code with its scope.
        0x0F => length(bytes, at)?,
        // A regular expression and its options.
        0x0B => {
            let end = name_end(bytes, at)?;
            return name_end(bytes, end);
        }
        _ => return None,
    };
    at.checked_add(length).filter(|end| *end <= bytes.len())
}

/// Where the document that begins at `at` ends.
fn document_end(bytes: &[u8], at: usize) -> Option<usize> {
    let length = length(bytes, at)?;
    let end = at.checked_add(length)?;
    (length >= 5 && bytes.get(end - 1) == Some(&0)).then_some(end)
}

/// Where the string that begins at `at`, with its length, ends.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let length = length(bytes, at)?;
    let end = at.checked_add(4)?.checked_add(length)?;
    (length >= 1 && bytes.get(end - 1) == Some(&0)).then_some(end)
}

fn name_end(bytes: &[u8], at: usize) -> Option<usize> {
    let length = zero_in(bytes.get(at..)?)?;
    Some(at + length + 1)
}

/// Where the first zero is, eight bytes at a time. Names are short: with `memchr`, the parts of an event are found in 120 ns and not in 93
/// (AMD EPYC; `decode` of `benches/parts.rs`).
#[inline]
fn zero_in(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*eight);
        // The lowest of these bits is of the first zero, whatever those above it are of.
        let zeros = word.wrapping_sub(ONES) & !word & HIGHS;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes[at..].iter().position(|byte| *byte == 0)?;
    Some(at + rest)
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..)?.first_chunk()?;
    i32::from_le_bytes(*length).try_into().ok()
}

#[cfg(test)]
mod tests {
    use bson::{
        Binary, Bson, Decimal128, JavaScriptCodeWithScope, RawDocumentBuf, Regex, Timestamp, doc,
        oid::ObjectId, spec::BinarySubtype,
    };

    use super::*;

    fn every_type() -> RawDocumentBuf {
        let document = doc! {
            "double": 1.5, "string": "é", "document": { "a": 1 }, "array": [1, "x"],
            "binary": Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2, 3] },
            "undefined": Bson::Undefined, "id": ObjectId::new(), "true": true, "false": false, "date": DateTime::from_millis(7),
            "null": null, "regex": Regex { pattern: bson::cstr!("a.b").into(), options: bson::cstr!("i").into() },
            "code": Bson::JavaScriptCode("1".into()), "symbol": Bson::Symbol("s".into()),
            "scope": JavaScriptCodeWithScope { code: "1".into(), scope: doc! { "a": 1 } },
            "int32": 1, "timestamp": Timestamp { time: 1, increment: 2 }, "int64": 1_i64,
            "decimal": Decimal128::from_bytes([0; 16]), "min": Bson::MinKey, "max": Bson::MaxKey,
        };
        RawDocumentBuf::try_from(&document).expect("a document")
    }

    #[test]
    fn every_type_is_passed_at_its_end() {
        let raw = every_type();
        let mut walk = Fields::of(raw.as_bytes()).expect("a document");
        for element in raw.iter_elements() {
            let element = element.expect("an element");
            let field = walk.next().expect("a field").expect("well-formed");
            assert_eq!(field.name, element.key().as_str().as_bytes());
            assert_eq!(field.element_type, element.element_type() as u8);
        }
        assert!(walk.next().is_none());
    }

    #[test]
    fn the_first_zero_is_found_wherever_it_is() {
        for other in [0x01, 0x7F, 0x80, 0xFF] {
            for at in 0..24 {
                let mut bytes = vec![other; 24];
                assert_eq!(zero_in(&bytes[..at]), None);
                bytes[at] = 0;
                assert_eq!(zero_in(&bytes), Some(at), "{other:#x}");
                bytes[at..].fill(0);
                assert_eq!(zero_in(&bytes), Some(at), "{other:#x}");
            }
        }
    }

    #[test]
    fn a_value_is_what_bson_takes_it_for() {
        let raw = every_type();
        for element in raw.iter_elements() {
            let element = element.expect("an element");
            let value = element.value().expect("a value");
            assert_eq!(get(&raw, element.key().as_str()), Some(value));
        }
        assert_eq!(get(&raw, "other"), None);
    }
}
