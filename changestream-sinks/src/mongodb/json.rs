//! Extended JSON read as BSON: fields keep their order, and no value is in an error.

use std::{borrow::Cow, fmt};

use bson::{
    Bson, DateTime, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, oid::ObjectId,
    raw::CStr,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

/// What the object of a type begins with that JSON has not.
const TYPES: [&str; 17] = [
    "$binary",
    "$code",
    "$date",
    "$dbPointer",
    "$maxKey",
    "$minKey",
    "$numberDecimal",
    "$numberDouble",
    "$numberInt",
    "$numberLong",
    "$oid",
    "$regularExpression",
    "$scope",
    "$symbol",
    "$timestamp",
    "$undefined",
    "$uuid",
];

#[derive(Debug, PartialEq)]
pub(super) struct ExtendedJson(pub(super) RawBson);

impl<'de> Deserialize<'de> for ExtendedJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut read = RawBson::Null;
        Json(&mut |value| read = value.into()).deserialize(deserializer)?;
        Ok(Self(read))
    }
}

/// Reads a value, and gives it to the function, once.
struct Json<'a>(&'a mut dyn FnMut(RawBsonRef<'_>));

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.give(RawBsonRef::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.give(RawBsonRef::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.give(match i32::try_from(value) {
            Ok(value) => RawBsonRef::Int32(value),
            Err(_) => RawBsonRef::Int64(value),
        })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.give(RawBsonRef::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.give(RawBsonRef::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let mut array = RawArrayBuf::new();
        while values
            .next_element_seed(Json(&mut |value| array.push(value)))?
            .is_some()
        {}
        self.give(RawBsonRef::Array(&array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut next = fields.next_key::<Name<'_>>()?;
        if let Some(Name(name)) = next.take_if(|Name(name)| TYPES.contains(&&**name)) {
            return self.give(typed(&name, fields)?.as_raw_bson_ref());
        }
        let mut document = RawDocumentBuf::new();
        while let Some(Name(name)) = next {
            let name: Result<&CStr, _> = (&*name).try_into();
            let name = name.map_err(|_| A::Error::custom("the name of a field has a NUL"))?;
            fields.next_value_seed(Json(&mut |value| document.append(name, value)))?;
            next = fields.next_key()?;
        }
        match has_each_name_once(&document) {
            true => self.give(RawBsonRef::Document(&document)),
            false => Err(A::Error::custom(
                "two fields of one object have the same name",
            )),
        }
    }
}

impl Json<'_> {
    fn give<E>(self, value: RawBsonRef<'_>) -> Result<(), E> {
        self.0(value);
        Ok(())
    }
}

/// The name of a field, as it stands in the text where nothing of it is escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn has_each_name_once(document: &RawDocument) -> bool {
    let names = document.iter_elements().flatten();
    let mut names: Vec<_> = names.map(|field| field.key().as_str()).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// A value of a type that JSON has not, whose first field has this name.
fn typed<'de, A: MapAccess<'de>>(name: &str, mut fields: A) -> Result<RawBson, A::Error> {
    // Its own error would quote it.
    let refused = || A::Error::custom("an object that begins with a `$` is of no type");
    let first: Value = fields.next_value()?;
    let mut next = fields.next_entry::<String, Value>()?;
    let value = match (name, &first, &next) {
        ("$oid", Value::String(text), None) => ObjectId::parse_str(text).ok().map(Bson::from),
        ("$date", Value::String(text), None) => {
            DateTime::parse_rfc3339_str(text).ok().map(Bson::from)
        }
        _ => {
            let mut object = serde_json::Map::from_iter([(name.to_owned(), first)]);
            while let Some((name, value)) = next {
                object.insert(name, value);
                next = fields.next_entry()?;
            }
            Bson::try_from(object).ok()
        }
    };
    let value = value.ok_or_else(refused)?;
    RawBson::try_from(value).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use bson::{Document, Timestamp, doc};
    use changestream_core::Json as Written;

    use super::*;

    fn read(json: &str) -> Result<Bson, String> {
        let read = serde_json::from_str(json).map_err(|error| error.to_string());
        read.map(|ExtendedJson(value)| Bson::try_from(value).expect("BSON"))
    }

    #[test]
    fn what_was_written_is_read_again_with_its_types_and_in_its_order() {
        let inner = doc! { "z": [1, { "b": -7, "a": 2.0 }, []], "a": {}, "n": Bson::Null };
        let document = doc! {
            "string": "\"a\"\n", "int": -1, "long": i64::MIN, "double": 1.0, "infinite": f64::INFINITY, "true": true,
            "inner": inner, "id": ObjectId::from_bytes([1; 12]), "at": DateTime::from_millis(6),
            "before": DateTime::from_millis(-1), "price": Bson::Decimal128("9.990".parse().expect("a decimal")),
            "uuid": bson::Uuid::from_bytes([17; 16]), "time": Timestamp { time: 1, increment: 2 },
            "code": Bson::JavaScriptCode("f()".into()), "min": Bson::MinKey, "max": Bson::MaxKey,
            "symbol": Bson::Symbol("s".into()), "undefined": Bson::Undefined,
            "reference": { "$ref": "orders", "$id": 1, "$db": "shop" }, "later": { "a": 1, "$oid": "x" },
        };
        let raw = RawDocumentBuf::try_from(&document).expect("BSON");
        let json = serde_json::to_string(&Written::relaxed(&*raw)).expect("JSON");
        assert_eq!(read(&json), Ok(document.into()));
    }

    #[test]
    fn an_integer_has_32_bits_where_that_will_do() {
        let read: Document =
            match read(r#"{"a": 2147483647, "b": 2147483648, "c": 18446744073709551615}"#) {
                Ok(Bson::Document(document)) => document,
                read => panic!("{read:?}"),
            };
        assert_eq!(
            read,
            doc! { "a": i32::MAX, "b": 2_147_483_648_i64, "c": 18_446_744_073_709_551_615_f64 }
        );
    }

    #[test]
    fn what_is_no_extended_json_is_refused_and_not_shown() {
        for (json, expected) in [
            (r#"{"a": {"$date": "secret"}}"#, "is of no type"),
            (r#"{"a": {"$oid": "secret"}}"#, "is of no type"),
            (
                r#"{"$oid": "010101010101010101010101", "secret": 1}"#,
                "is of no type",
            ),
            (
                r#"{"a": 1, "b": {"secret": 1, "secret": 2}}"#,
                "have the same name",
            ),
            ("{\"secret\\u0000\": 1}", "has a NUL"),
            (r#"{"a": secret}"#, "expected value"),
        ] {
            let error = read(json).expect_err(json);
            assert!(
                error.contains(expected) && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
