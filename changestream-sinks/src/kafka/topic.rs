//! The name of a topic.

use std::borrow::Cow;

use changestream_core::{Delivery, Error, HandlerError, Template};

/// The longest name, in bytes.
const MAX: usize = 249;

/// The template, checked as far as it can be without a delivery.
pub(super) fn parse(text: String) -> Result<Template, Error> {
    let template = Template::new(text.as_str())?;
    if !text.contains(['{', '}']) {
        check(&text).map_err(|problem| {
            Error::configuration(format!("the topic `{text}` of a Kafka sink {problem}"))
        })?;
    }
    Ok(template)
}

/// The topic of a delivery. What is wrong with it is said without the values in it.
pub(super) fn of(template: &Template, delivery: &Delivery) -> Result<String, HandlerError> {
    let topic = template.render_with(delivery, |value| match value.bytes().all(is_legal) {
        true => Ok(Cow::Borrowed(value)),
        false => Err("the name of a Kafka topic consists of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`"),
    })?;
    match check(&topic) {
        Ok(()) => Ok(topic),
        Err(problem) => Err(HandlerError::reject(format!(
            "the topic that `{template}` gives for the event {problem}"
        ))),
    }
}

/// What no broker takes (Apache Kafka, class `org.apache.kafka.common.internals.Topic`).
fn check(name: &str) -> Result<(), &'static str> {
    match name {
        "." | ".." => Err("is `.` or `..`, which no topic is named"),
        _ if name.len() > MAX => Err("is longer than 249 characters"),
        _ if name.bytes().all(is_legal) => Ok(()),
        _ => Err("has other characters than `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`"),
    }
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}
