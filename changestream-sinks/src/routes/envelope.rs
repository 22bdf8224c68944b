//! The envelope around a service's messages.

use changestream_core::{Error, SinkSpec};
use serde::Deserialize;

use super::environment::Environment;

/// A mode, or a table with more.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`\"structured\"`, `\"binary\"`, or a table of `mode`, `source` and `type`"
)]
pub(super) enum Envelope {
    Mode(String),
    Table(Settings),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    mode: String,
    source: Option<String>,
    r#type: Option<String>,
}

impl Envelope {
    /// A sink, whose URL has this scheme, that sends CloudEvents.
    #[cfg_attr(not(feature = "cloudevents"), allow(unused_variables))]
    pub(super) fn around(
        &self,
        sink: SinkSpec,
        scheme: &str,
        environment: &Environment,
    ) -> Result<SinkSpec, Error> {
        let (mode, source, event_type) = match self {
            Self::Mode(mode) => (mode, None, None),
            Self::Table(table) => (&table.mode, table.source.as_ref(), table.r#type.as_ref()),
        };
        let source = source
            .map(|source| environment.expand(source))
            .transpose()?;
        with_feature!("cloudevents", "`cloudevents`", {
            let mut events = events(mode, scheme)?;
            if let Some(source) = source {
                events = events.source(source)?;
            }
            if let Some(event_type) = event_type {
                events = events.event_type(event_type)?;
            }
            Ok(events.around(sink))
        })
    }
}

#[cfg(feature = "cloudevents")]
fn events(mode: &str, scheme: &str) -> Result<crate::CloudEvents, Error> {
    use crate::CloudEvents;

    match (mode, scheme) {
        ("structured", _) => Ok(CloudEvents::structured()),
        ("binary", "http" | "https") => Ok(CloudEvents::http_binary()),
        ("binary", "kafka") => Ok(CloudEvents::kafka_binary()),
        ("binary", "nats" | "tls") => Ok(CloudEvents::nats_binary()),
        ("binary", _) => Err(Error::configuration(format!(
            "`cloudevents = \"binary\"` is for HTTP, Kafka and NATS, and its URL begins with `{scheme}://`; write \
             `\"structured\"`"
        ))),
        (other, _) => Err(Error::configuration(format!(
            "`cloudevents = \"{other}\"` is neither `\"structured\"` nor `\"binary\"`"
        ))),
    }
}
