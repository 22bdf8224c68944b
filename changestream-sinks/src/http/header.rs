//! What a request says besides its body.

use changestream_core::Delivery;

use super::webhook::{self, WebhookKey};
use reqwest::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};

const EVENT_ID: HeaderName = HeaderName::from_static("x-event-id");
const EVENT_SOURCE: HeaderName = HeaderName::from_static("x-event-source");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Set by the sink or the connection, and by nobody else.
const RESERVED: [HeaderName; 12] = [
    EVENT_ID,
    EVENT_SOURCE,
    IDEMPOTENCY_KEY,
    CONTENT_TYPE,
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    TRANSFER_ENCODING,
    UPGRADE,
    webhook::ID,
    webhook::SIGNATURE,
    webhook::TIMESTAMP,
];

/// The headers of one request, or what is wrong with the message's.
pub(super) fn of(
    delivery: &Delivery,
    source: Option<&HeaderValue>,
    fixed: &HeaderMap,
) -> Result<HeaderMap, String> {
    let message = delivery.message();
    let event_id = value(&EVENT_ID, &delivery.event_id().to_string())?;
    let mut headers = fixed.clone();
    for (name, value) in message.headers() {
        let (name, value) = parse(name, value)?;
        headers.insert(name, value);
    }
    let source = match source {
        Some(source) => source.clone(),
        None => value(&EVENT_SOURCE, delivery.runtime())?,
    };
    headers
        .entry(CORRELATION_ID)
        .or_insert_with(|| event_id.clone());
    headers.insert(EVENT_ID, event_id);
    headers.insert(EVENT_SOURCE, source);
    headers.insert(IDEMPOTENCY_KEY, value(&IDEMPOTENCY_KEY, &delivery.id())?);
    headers.insert(CONTENT_TYPE, value(&CONTENT_TYPE, message.content_type())?);
    Ok(headers)
}

/// What receivers check that know one of the keys: the id of the delivery, this attempt's time, and a signature of each
/// key.
pub(super) fn sign(
    headers: &mut HeaderMap,
    delivery: &Delivery,
    keys: &[WebhookKey],
) -> Result<(), String> {
    if keys.is_empty() {
        return Ok(());
    }
    // The specification parts what is signed by dots.
    let id = delivery.id().replace('.', "%2E");
    let now = webhook::now();
    let body = delivery.message().payload();
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(&id, now, body)).collect();
    headers.insert(webhook::ID, value(&webhook::ID, &id)?);
    headers.insert(webhook::TIMESTAMP, now.into());
    headers.insert(
        webhook::SIGNATURE,
        value(&webhook::SIGNATURE, &signatures.join(" "))?,
    );
    Ok(())
}

/// A header that somebody else than the sink sets, or what is wrong with it.
pub(super) fn parse(name: &str, text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let header = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{name:?} is not a valid name of an HTTP header"))?;
    if RESERVED.contains(&header) {
        return Err(format!(
            "the HTTP sink sets the header `{name}` itself; remove it"
        ));
    }
    let value = value(&header, text)?;
    Ok((header, value))
}

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(text.as_bytes())
        .map_err(|_| format!("the value of the HTTP header `{name}` has control characters"))
}
