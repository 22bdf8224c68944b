//! What a message says besides its payload.

use async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID},
};
use changestream_core::{Delivery, Error};

const EVENT_ID: HeaderName = HeaderName::from_static("X-Event-ID");
const EVENT_SOURCE: HeaderName = HeaderName::from_static("X-Event-Source");
const CORRELATION_ID: HeaderName = HeaderName::from_static("X-Correlation-ID");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("Idempotency-Key");
const CONTENT_TYPE: HeaderName = HeaderName::from_static("Content-Type");

/// Set by the sink and by nobody else, in whatever case.
const RESERVED: [HeaderName; 4] = [EVENT_ID, EVENT_SOURCE, IDEMPOTENCY_KEY, CONTENT_TYPE];
/// What begins like this tells the server what to do.
const OF_THE_SERVER: &str = "nats-";

/// The headers of one message, or what is wrong with its own.
pub(super) fn of(
    delivery: &Delivery,
    source: Option<&HeaderValue>,
    expected_stream: Option<&HeaderValue>,
) -> Result<HeaderMap, String> {
    let message = delivery.message();
    let mut headers = HeaderMap::new();
    let mut is_correlated = false;
    for (name, text) in message.headers() {
        let name = parse(name)?;
        is_correlated |= is(&name, &CORRELATION_ID);
        let value = value(&name, text)?;
        headers.insert(name, value);
    }
    let id = delivery.id();
    let event_id = delivery.event_id().to_string();
    // A stream drops what has the id of another message, whatever sent it: the id says who did.
    let message_id = format!("{}/{}/{id}", delivery.runtime(), delivery.sink());
    if !is_correlated {
        headers.insert(CORRELATION_ID, value(&CORRELATION_ID, &event_id)?);
    }
    let source = match source {
        Some(source) => source.clone(),
        None => value(&EVENT_SOURCE, delivery.runtime())?,
    };
    headers.insert(EVENT_SOURCE, source);
    if let Some(stream) = expected_stream {
        headers.insert(NATS_EXPECTED_STREAM, stream.clone());
    }
    for (name, text) in [
        (EVENT_ID, event_id.as_str()),
        (IDEMPOTENCY_KEY, &id),
        (NATS_MESSAGE_ID, &message_id),
        (CONTENT_TYPE, message.content_type()),
    ] {
        let value = value(&name, text)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The name of a header that somebody else than the sink sets, or what is wrong with it.
fn parse(name: &str) -> Result<HeaderName, String> {
    let header = name.parse::<HeaderName>().ok();
    let header = header
        .filter(|_| !name.is_empty())
        .ok_or_else(|| format!("{name:?} is not a valid name of a NATS header"))?;
    let prefix = name.get(..OF_THE_SERVER.len()).unwrap_or_default();
    let is_of_the_server = prefix.eq_ignore_ascii_case(OF_THE_SERVER);
    if is_of_the_server || RESERVED.iter().any(|reserved| is(&header, reserved)) {
        return Err(format!(
            "the NATS sink sets the header `{name}` itself; remove it"
        ));
    }
    Ok(header)
}

fn is(one: &HeaderName, other: &HeaderName) -> bool {
    let one: &str = one.as_ref();
    one.eq_ignore_ascii_case(other.as_ref())
}

/// What a message is said to come from.
pub(super) fn source(text: &str) -> Result<HeaderValue, Error> {
    value(&EVENT_SOURCE, text).map_err(|_| {
        Error::configuration("the source of a NATS sink has control characters; remove them")
    })
}

/// The name of a stream.
pub(super) fn stream(name: &str) -> Result<HeaderValue, Error> {
    let is_wrong = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    let value = name.parse().ok();
    value
        .filter(|_| !name.is_empty() && !name.contains(is_wrong))
        .ok_or_else(|| {
            Error::configuration(format!(
                "{name:?} is not a valid name of a stream of NATS: it is empty, or holds white space, `.`, `*`, `>`, \
                 `/` or `\\`"
            ))
        })
}

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, String> {
    let has_control = text.contains(|c: char| c.is_control() && c != '\t');
    let value = text.parse().ok().filter(|_| !has_control);
    value.ok_or_else(|| format!("the value of the NATS header `{name}` has control characters"))
}
