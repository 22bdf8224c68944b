//! A table as it is written.

use std::{collections::BTreeMap, fmt, time::Duration};

use bson::Bson;
use changestream_core::{Error, OnSinkDown, Operation, Route, SinkSpec};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{endpoint, envelope::Envelope, environment::Environment, url::Url};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    #[serde(default)]
    pub(super) services: BTreeMap<String, Service>,
    #[serde(default)]
    pub(super) routes: Vec<RouteEntry>,
}

/// A service whose texts are as they are in the file: no value of the environment is in an error about them.
#[derive(Debug, Default)]
pub(super) struct Service(Settings);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    url: String,
    timeout: Option<String>,
    retries: Option<u32>,
    backoff: Option<String>,
    concurrency: Option<usize>,
    on_down: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    source: Option<String>,
    #[serde(default)]
    sign_with: OneOrMore,
    #[serde(default)]
    public_only: bool,
    cloudevents: Option<Envelope>,
}

/// What only an HTTP sink has.
#[derive(Debug, Default)]
pub(super) struct HttpSettings {
    pub(super) headers: Vec<(String, String)>,
    pub(super) source: Option<String>,
    pub(super) sign_with: Vec<String>,
    pub(super) public_only: bool,
}

impl HttpSettings {
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty()
            && self.source.is_none()
            && self.sign_with.is_empty()
            && !self.public_only
    }
}

impl Service {
    pub(super) fn sink(&self, environment: &Environment) -> Result<SinkSpec, Error> {
        let Settings {
            url,
            timeout,
            retries,
            backoff,
            concurrency,
            on_down,
            headers,
            source,
            sign_with,
            public_only,
            cloudevents,
        } = &self.0;
        let header =
            |(name, value): (&String, &String)| Ok((name.clone(), environment.expand(value)?));
        let keys = sign_with.0.iter().map(|key| environment.expand(key));
        let http = HttpSettings {
            headers: headers.iter().map(header).collect::<Result<_, Error>>()?,
            source: source
                .as_ref()
                .map(|source| environment.expand(source))
                .transpose()?,
            sign_with: keys.collect::<Result<_, _>>()?,
            public_only: *public_only,
        };
        let text = environment.expand(url)?;
        let url = Url::parse(&text)?;
        let scheme = url.scheme;
        let mut sink = endpoint::sink(&text, url, http)?;
        if let Some(envelope) = cloudevents {
            sink = envelope.around(sink, scheme, environment)?;
        }
        if let Some(timeout) = timeout {
            sink = sink.timeout(duration("timeout", timeout)?);
        }
        if let Some(retries) = retries {
            sink = sink.retries(*retries);
        }
        if let Some(backoff) = backoff {
            sink = sink.backoff(duration("backoff", backoff)?);
        }
        if let Some(concurrency) = concurrency {
            sink = sink.concurrency(*concurrency);
        }
        match on_down.as_deref() {
            None => Ok(sink),
            Some("pause") => Ok(sink.on_down(OnSinkDown::Pause)),
            Some("dead-letter") => Ok(sink.on_down(OnSinkDown::DeadLetter)),
            Some(other) => Err(Error::configuration(format!(
                "`on-down = \"{other}\"` is neither `\"pause\"` nor `\"dead-letter\"`"
            ))),
        }
    }
}

fn duration(key: &str, text: &str) -> Result<Duration, Error> {
    humantime::parse_duration(text).map_err(|error| {
        Error::configuration(format!(
            "`{key} = \"{text}\"` is no duration; write `\"3s\"` or `\"500ms\"`"
        ))
        .caused_by(error)
    })
}

/// A URL alone, or a table.
impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UrlOrSettings;

        impl<'de> Visitor<'de> for UrlOrSettings {
            type Value = Service;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a table with a `url`")
            }

            fn visit_str<E>(self, url: &str) -> Result<Service, E> {
                Ok(Service(Settings {
                    url: url.to_owned(),
                    ..Settings::default()
                }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Service, A::Error> {
                Settings::deserialize(MapAccessDeserializer::new(map)).map(Service)
            }
        }

        deserializer.deserialize_any(UrlOrSettings)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteEntry {
    to: OneOrMore,
    #[serde(default)]
    coll: OneOrMore,
    #[serde(default)]
    op: OneOrMore,
    #[serde(default)]
    field: OneOrMore,
    #[serde(default)]
    handler: OneOrMore,
    #[serde(default)]
    equals: BTreeMap<String, Scalar>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text, a number or a truth value")]
enum Scalar {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

/// A text or a list of them.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Listed")]
struct OneOrMore(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or a list of texts")]
enum Listed {
    One(String),
    More(Vec<String>),
}

impl From<Listed> for OneOrMore {
    fn from(listed: Listed) -> Self {
        match listed {
            Listed::One(one) => Self(vec![one]),
            Listed::More(more) => Self(more),
        }
    }
}

impl TryFrom<RouteEntry> for Route {
    type Error = Error;

    fn try_from(entry: RouteEntry) -> Result<Self, Error> {
        let to = entry.to.0.join(", ");
        let operations = entry.op.0.iter().map(|name| {
            operation(name).ok_or_else(|| {
                Error::configuration(format!(
                    "the route to {to}: `{name}` is no operation; write insert, update, replace, delete, drop, rename, \
                     drop_database, invalidate or snapshot"
                ))
            })
        });
        let mut route = Self::to(entry.to.0)
            .operations(operations.collect::<Result<Vec<_>, _>>()?)
            .collections(entry.coll.0)
            .fields(entry.field.0)
            .handlers(entry.handler.0);
        for (field, value) in entry.equals {
            route = route.equals(field, Bson::from(value));
        }
        Ok(route)
    }
}

impl From<Scalar> for Bson {
    fn from(value: Scalar) -> Self {
        match value {
            Scalar::Boolean(value) => Self::Boolean(value),
            Scalar::Integer(value) => Self::Int64(value),
            Scalar::Float(value) => Self::Double(value),
            Scalar::Text(value) => Self::String(value),
        }
    }
}

/// By the name that `#[on_change(..)]` has for it.
fn operation(name: &str) -> Option<Operation> {
    match name {
        "drop_database" => Some(Operation::DropDatabase),
        "dropDatabase" => None,
        name => Some(Operation::from(name))
            .filter(|operation| !matches!(operation, Operation::Other(_))),
    }
}
