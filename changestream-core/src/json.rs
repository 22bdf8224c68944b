//! BSON as JSON, read from its bytes and written as it is read.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bson::{
    Bson, DateTime, RawBinaryRef, RawBsonRef, RawDocumentBuf, RawRegexRef, spec::BinarySubtype,
};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap as _, SerializeSeq as _},
};

/// A BSON value that serializes as JSON, in one of two forms; its fields keep their order.
///
/// | BSON | [`relaxed`](Self::relaxed) | [`plain`](Self::plain) |
/// | --- | --- | --- |
/// | integer, finite double | a number | a number |
/// | NaN, infinite double | `{"$numberDouble": "Infinity"}` | `"NaN"`, `"Infinity"`, `"-Infinity"` |
/// | object id | `{"$oid": "6123.."}` | `"6123.."` |
/// | date | `{"$date": "2026-01-02T03:04:05.006Z"}` | `"2026-01-02T03:04:05.006Z"` |
/// | date before 1970 or after 9999 | `{"$date": {"$numberLong": ".."}}` | its milliseconds since 1970 |
/// | decimal | `{"$numberDecimal": "9.99"}` | `"9.99"` |
/// | UUID | `{"$binary": {"base64": "..", "subType": "04"}}` | `"00112233-4455-6677-8899-aabbccddeeff"` |
/// | other binary | `{"$binary": {"base64": "..", "subType": "00"}}` | base64 |
/// | timestamp | `{"$timestamp": {"t": 1, "i": 2}}` | `{"t": 1, "i": 2}` |
/// | regular expression | `{"$regularExpression": {..}}` | `"/pattern/options"` |
/// | code, symbol | `{"$code": ".."}`, `{"$symbol": ".."}` | its text |
/// | undefined, least and greatest key | `{"$undefined": true}`, `{"$minKey": 1}`, `{"$maxKey": 1}` | `null` |
/// | DBPointer | `{"$dbPointer": {..}}` | its object id |
///
/// The relaxed form is that of the MongoDB specification *Extended JSON*, from which every driver gets the same BSON back. The plain
/// one is for receivers that know nothing of BSON.
///
/// # Example
///
/// ```
/// use bson::{DateTime, rawdoc};
/// use changestream_core::Json;
///
/// let at = rawdoc! { "at": DateTime::from_millis(0) };
/// let json = |json: Json<'_>| serde_json::to_string(&json).unwrap();
/// assert_eq!(json(Json::relaxed(&*at)), r#"{"at":{"$date":"1970-01-01T00:00:00Z"}}"#);
/// assert_eq!(json(Json::plain(&*at)), r#"{"at":"1970-01-01T00:00:00Z"}"#);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Json<'a> {
    value: RawBsonRef<'a>,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Relaxed,
    Plain,
}

impl<'a> Json<'a> {
    /// As relaxed Extended JSON.
    pub fn relaxed(value: impl Into<RawBsonRef<'a>>) -> Self {
        Self::new(value.into(), Form::Relaxed)
    }

    /// As plain JSON.
    pub fn plain(value: impl Into<RawBsonRef<'a>>) -> Self {
        Self::new(value.into(), Form::Plain)
    }

    pub(crate) fn new(value: RawBsonRef<'a>, form: Form) -> Self {
        Self { value, form }
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, form } = *self;
        match value {
            RawBsonRef::Document(document) => {
                let mut map = serializer.serialize_map(None)?;
                for field in document {
                    let (key, value) = field.map_err(S::Error::custom)?;
                    map.serialize_entry(key.as_str(), &Self::new(value, form))?;
                }
                map.end()
            }
            RawBsonRef::Array(array) => {
                let mut items = serializer.serialize_seq(None)?;
                for value in array {
                    let value = value.map_err(S::Error::custom)?;
                    items.serialize_element(&Self::new(value, form))?;
                }
                items.end()
            }
            RawBsonRef::String(text) => serializer.serialize_str(text),
            RawBsonRef::Boolean(value) => serializer.serialize_bool(value),
            RawBsonRef::Null => serializer.serialize_unit(),
            RawBsonRef::Int32(value) => serializer.serialize_i32(value),
            RawBsonRef::Int64(value) => serializer.serialize_i64(value),
            RawBsonRef::Double(value) if value.is_finite() => serializer.serialize_f64(value),
            value => match form {
                Form::Relaxed => relaxed(value, serializer),
                Form::Plain => plain(value, serializer),
            },
        }
    }
}

/// A value of a type that JSON has not.
fn relaxed<S: Serializer>(value: RawBsonRef<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        RawBsonRef::ObjectId(id) => tagged("$oid", &id.to_hex(), serializer),
        RawBsonRef::Decimal128(value) => tagged("$numberDecimal", &value.to_string(), serializer),
        RawBsonRef::DateTime(time) => match rfc3339(time) {
            Some(text) => tagged("$date", &text, serializer),
            None => {
                let mut map = serializer.serialize_map(Some(1))?;
                let millis = time.timestamp_millis().to_string();
                map.serialize_entry("$date", &BTreeMap::from([("$numberLong", millis)]))?;
                map.end()
            }
        },
        value => {
            let value = Bson::try_from(value).map_err(S::Error::custom)?;
            value.into_relaxed_extjson().serialize(serializer)
        }
    }
}

fn tagged<S: Serializer>(tag: &str, text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(tag, text)?;
    map.end()
}

fn plain<S: Serializer>(value: RawBsonRef<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        RawBsonRef::ObjectId(id) => serializer.serialize_str(&id.to_hex()),
        RawBsonRef::DateTime(time) => match rfc3339(time) {
            Some(text) => serializer.serialize_str(&text),
            None => serializer.serialize_i64(time.timestamp_millis()),
        },
        RawBsonRef::Decimal128(value) => serializer.collect_str(&value),
        RawBsonRef::Binary(binary) => serializer.serialize_str(&binary_text(binary)),
        RawBsonRef::Timestamp(timestamp) => {
            let mut map = serializer.serialize_map(Some(2))?;
            map.serialize_entry("t", &timestamp.time)?;
            map.serialize_entry("i", &timestamp.increment)?;
            map.end()
        }
        RawBsonRef::Double(value) if value.is_nan() => serializer.serialize_str("NaN"),
        RawBsonRef::Double(value) if value > 0.0 => serializer.serialize_str("Infinity"),
        RawBsonRef::Double(_) => serializer.serialize_str("-Infinity"),
        RawBsonRef::RegularExpression(RawRegexRef {
            pattern, options, ..
        }) => serializer.collect_str(&format_args!("/{pattern}/{options}")),
        RawBsonRef::JavaScriptCode(text) | RawBsonRef::Symbol(text) => {
            serializer.serialize_str(text)
        }
        RawBsonRef::JavaScriptCodeWithScope(code) => serializer.serialize_str(code.code),
        RawBsonRef::DbPointer(_) => {
            let value = Bson::try_from(value)
                .map_err(S::Error::custom)?
                .into_relaxed_extjson();
            let id = value.pointer("/$dbPointer/$id/$oid");
            id.serialize(serializer)
        }
        _ => serializer.serialize_unit(),
    }
}

/// What Extended JSON writes as text: dates of the years 1970 to 9999.
fn rfc3339(time: DateTime) -> Option<String> {
    const END: i64 = 253_402_300_800_000;
    let is_in_range = (0..END).contains(&time.timestamp_millis());
    is_in_range.then(|| time.try_to_rfc3339_string().ok())?
}

fn binary_text(binary: RawBinaryRef<'_>) -> String {
    let RawBinaryRef { subtype, bytes } = binary;
    match (subtype, <[u8; 16]>::try_from(bytes)) {
        (BinarySubtype::Uuid, Ok(bytes)) => bson::Uuid::from_bytes(bytes).to_string(),
        _ => BASE64.encode(bytes),
    }
}

/// A value with its BSON, in a document of which it is the one field.
pub(crate) struct Encoded(RawDocumentBuf);

impl Encoded {
    pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> bson::error::Result<Self> {
        #[derive(Serialize)]
        struct Field<'a, T: ?Sized> {
            value: &'a T,
        }
        bson::serialize_to_raw_document_buf(&Field { value }).map(Self)
    }

    pub(crate) fn value(&self) -> RawBsonRef<'_> {
        let value = self.0.get("value").ok().flatten();
        value.unwrap_or(RawBsonRef::Null)
    }
}

#[cfg(test)]
mod tests {
    use bson::{Binary, Document, Regex, Timestamp, doc, oid::ObjectId};

    use super::*;
    use crate::filter::equal;

    fn json(form: Form, value: impl Into<Bson>) -> String {
        let document = bson::serialize_to_raw_document_buf(&doc! { "value": value.into() });
        let encoded = Encoded(document.expect("BSON"));
        serde_json::to_string(&Json::new(encoded.value(), form)).expect("JSON")
    }

    /// One value of each type, with its plain form.
    fn values() -> Vec<(Bson, &'static str)> {
        let uuid = bson::Uuid::from_bytes([17; 16]);
        let binary = |bytes: &[u8]| Binary {
            subtype: BinarySubtype::Generic,
            bytes: bytes.to_vec(),
        };
        vec![
            (Bson::Int32(-7), "-7"),
            (Bson::Int64(i64::MAX), "9223372036854775807"),
            (Bson::Double(1.0), "1.0"),
            (Bson::Double(f64::NAN), r#""NaN""#),
            (Bson::Double(f64::INFINITY), r#""Infinity""#),
            (Bson::Double(f64::NEG_INFINITY), r#""-Infinity""#),
            (Bson::String("\"a\"\n".into()), r#""\"a\"\n""#),
            (Bson::Boolean(true), "true"),
            (Bson::Null, "null"),
            (
                Bson::ObjectId(ObjectId::from_bytes([1; 12])),
                r#""010101010101010101010101""#,
            ),
            (
                Bson::DateTime(DateTime::from_millis(6)),
                r#""1970-01-01T00:00:00.006Z""#,
            ),
            (Bson::DateTime(DateTime::from_millis(-1)), "-1"),
            (
                Bson::DateTime(DateTime::from_millis(253_402_300_800_000)),
                "253402300800000",
            ),
            (
                Bson::Decimal128("9.990".parse().expect("a decimal")),
                r#""9.990""#,
            ),
            (
                Bson::Binary(uuid.into()),
                r#""11111111-1111-1111-1111-111111111111""#,
            ),
            (Bson::Binary(binary(&[251, 255])), r#""+/8=""#),
            (
                Bson::Timestamp(Timestamp {
                    time: 1,
                    increment: 2,
                }),
                r#"{"t":1,"i":2}"#,
            ),
            (
                Bson::RegularExpression(Regex {
                    pattern: bson::raw::CString::try_from("a/b").expect("no NUL"),
                    options: bson::raw::CString::try_from("i").expect("no NUL"),
                }),
                r#""/a/b/i""#,
            ),
            (Bson::JavaScriptCode("f()".into()), r#""f()""#),
            (Bson::Symbol("s".into()), r#""s""#),
            (Bson::Undefined, "null"),
            (Bson::MinKey, "null"),
            (Bson::MaxKey, "null"),
            (
                Bson::Document(doc! { "a": {}, "z": [1, { "y": 2_i64 }] }),
                r#"{"a":{},"z":[1,{"y":2}]}"#,
            ),
        ]
    }

    #[test]
    fn plain_json_has_no_type_of_bson() {
        for (value, expected) in values() {
            assert_eq!(json(Form::Plain, value.clone()), expected, "{value:?}");
        }
    }

    #[test]
    fn relaxed_json_gives_the_value_back() {
        for (value, _) in values() {
            let text = json(Form::Relaxed, value.clone());
            let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let back = Bson::try_from(parsed).expect("Extended JSON");
            // The relaxed form does not tell the integers apart.
            assert!(
                equal(raw(&back).value(), raw(&value).value()),
                "{value:?} came back as {back:?}"
            );
        }
    }

    fn raw(value: &Bson) -> Encoded {
        Encoded::of(value).expect("BSON")
    }

    #[test]
    fn fields_keep_their_order() {
        let document: Document = (0..20).rev().map(|n| (n.to_string(), n.into())).collect();
        let text = json(Form::Relaxed, document);
        assert!(text.starts_with(r#"{"19":19,"18":18"#), "{text}");
    }
}
