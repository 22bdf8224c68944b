//! The event that a delivery is, all but its data.

use std::time::{SystemTime, UNIX_EPOCH};

use changestream_core::{Delivery, HandlerError};
use chrono::{DateTime, Datelike as _, Utc};
use cloudevents::{AttributesWriter as _, Event, EventBuilder as _, EventBuilderV10};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{CloudEvents, content::Content};

/// All but what stands for itself wherever in a URI it is (RFC 3986, "Unreserved Characters").
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why a message cannot be an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error(
        "no CloudEvent is made of the message: its payload is not the JSON that its content type says"
    )]
    NotJson(#[source] serde_json::Error),
    #[error(
        "no CloudEvent is made of the message: its content type is no media type like `application/json`"
    )]
    ContentType,
    #[error(
        "no CloudEvent is made of the message: the attribute `{0}` cannot have control characters"
    )]
    Characters(&'static str),
    #[error(
        "no CloudEvent is made of the message: the header {0:?} begins as those of the event do; name it otherwise"
    )]
    Header(String),
}

pub(super) fn of(settings: &CloudEvents, delivery: &Delivery) -> Result<Event, HandlerError> {
    let message = delivery.message();
    check_headers(message.headers().keys()).map_err(HandlerError::reject)?;
    let source = match &settings.source {
        Some(source) => source.clone(),
        None => default_source(delivery),
    };
    let ty = match &settings.event_type {
        Some(template) => template.render(delivery)?,
        None => default_type(delivery),
    };
    let mut event = EventBuilderV10::new()
        .id(attribute("id", delivery.id())?)
        .source(source)
        .ty(attribute("type", ty)?)
        .build()
        .map_err(HandlerError::reject)?;
    if let Some(key) = message.get_key().filter(|key| !key.is_empty()) {
        let key = attribute("subject", key.to_owned())?;
        event.set_extension("partitionkey", key.as_str());
        event.set_subject(Some(key));
    }
    event.set_time(delivery.change().wall_time().and_then(time));
    if Content::of(message.content_type()).is_none() {
        return Err(HandlerError::reject(Unfit::ContentType));
    }
    let content_type = attribute("datacontenttype", message.content_type().to_owned())?;
    event.set_datacontenttype(Some(content_type));
    Ok(event)
}

fn check_headers<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Unfit> {
    let is_of_the_event = |name: &&String| {
        let prefix = name.get(..3).unwrap_or_default();
        prefix.eq_ignore_ascii_case("ce-") || prefix.eq_ignore_ascii_case("ce_")
    };
    let mut names = names.filter(is_of_the_event);
    names
        .next()
        .map_or(Ok(()), |name| Err(Unfit::Header(name.clone())))
}

/// A value that is a String of CloudEvents (specification, "Type System").
fn attribute(name: &'static str, value: String) -> Result<String, HandlerError> {
    let is_no_character =
        |c: char| matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    match value.contains(|c: char| c.is_control() || is_no_character(c)) {
        true => Err(HandlerError::reject(Unfit::Characters(name))),
        false => Ok(value),
    }
}

fn default_source(delivery: &Delivery) -> String {
    let runtime = utf8_percent_encode(delivery.runtime(), RESERVED);
    format!("/changestream/{runtime}")
}

/// Without a collection where the event is about the whole database.
fn default_type(delivery: &Delivery) -> String {
    let change = delivery.change();
    let parts = [
        change.database(),
        change.collection().unwrap_or_default(),
        change.operation().as_str(),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(".")
}

/// `None` for what RFC 3339 cannot write.
fn time(at: SystemTime) -> Option<DateTime<Utc>> {
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    let seconds = since.as_secs().try_into().ok()?;
    let time = DateTime::from_timestamp(seconds, since.subsec_nanos())?;
    (time.year() <= 9999).then_some(time)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_one_of_rfc_3339() {
        let at = |seconds| time(UNIX_EPOCH + Duration::from_secs(seconds));
        let end = 253_402_300_800;
        assert_eq!(
            at(0).expect("a time").to_rfc3339(),
            "1970-01-01T00:00:00+00:00"
        );
        assert!(at(end - 1).is_some());
        assert_eq!(at(end), None);
        assert_eq!(at(i64::MAX as u64 / 2), None);
        assert_eq!(time(UNIX_EPOCH - Duration::from_secs(1)), None);
    }

    #[test]
    fn an_attribute_has_no_control_character() {
        for text in [
            "a\n",
            "\0",
            "\u{7f}",
            "\u{9f}",
            "\u{fdd0}",
            "\u{ffff}",
            "\u{1fffe}",
        ] {
            assert!(attribute("type", text.to_owned()).is_err(), "{text:?}");
        }
        assert!(attribute("type", "a \"b\" % \u{e9} \u{1f600}".to_owned()).is_ok());
    }
}
