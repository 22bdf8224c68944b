//! What a record says besides its key and payload.

use std::collections::BTreeMap;

use changestream_core::Delivery;
use rdkafka::message::{Header, OwnedHeaders};

const ID: &str = "id";
const EVENT_ID: &str = "event-id";
const SOURCE: &str = "source";
const CONTENT_TYPE: &str = "content-type";
const CORRELATION_ID: &str = "correlation-id";

/// Set by the sink and by nobody else.
const RESERVED: [&str; 4] = [ID, EVENT_ID, SOURCE, CONTENT_TYPE];

/// The headers of one record, whose names are [checked](check), and of the sink's own `fixed` ones.
pub(super) fn of(
    delivery: &Delivery,
    source: Option<&str>,
    fixed: &BTreeMap<String, String>,
) -> OwnedHeaders {
    let message = delivery.message();
    let own = message.headers();
    let (id, event_id) = (delivery.id(), delivery.event_id().to_string());
    let fixed = fixed.iter().filter(|(name, _)| !own.contains_key(*name));
    let others = || fixed.clone().chain(own);
    let is_correlated = others().any(|(name, _)| name.eq_ignore_ascii_case(CORRELATION_ID));

    let headers = OwnedHeaders::new_with_capacity(RESERVED.len() + 1 + others().count());
    let headers = add(headers, ID, &id);
    let headers = add(headers, EVENT_ID, &event_id);
    let headers = add(headers, SOURCE, source.unwrap_or(delivery.runtime()));
    let mut headers = add(headers, CONTENT_TYPE, message.content_type());
    if !is_correlated {
        headers = add(headers, CORRELATION_ID, &event_id);
    }
    others().fold(headers, |headers, (name, value)| add(headers, name, value))
}

fn add(headers: OwnedHeaders, name: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header {
        key: name,
        value: Some(value),
    })
}

/// What is wrong with the name of a header that somebody else than the sink sets.
pub(super) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(format!("{name:?} is not a valid name of a Kafka header"));
    }
    match RESERVED.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        true => Err(format!(
            "the Kafka sink sets the header `{name}` itself; remove it"
        )),
        false => Ok(()),
    }
}
