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
