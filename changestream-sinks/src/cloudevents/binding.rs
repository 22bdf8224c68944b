//! An event as a message, as the protocol bindings have it.

use changestream_core::{HandlerError, Message};
use chrono::SecondsFormat;
use cloudevents::{
    Event,
    event::SpecVersion,
    message::{BinaryDeserializer as _, BinarySerializer, MessageAttributeValue, Result},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{content::Content, event::Unfit};

const STRUCTURED: &str = "application/cloudevents+json";

/// What a value in a header is encoded for (*HTTP Protocol Binding*, "HTTP Header Values"), besides what is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Whose headers have an event's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    Http,
    Kafka,
    Nats,
}

/// The event as the SDK writes it, with JSON as its data that stays as it is, digit for digit.
#[derive(Serialize)]
struct Structured<'a> {
    #[serde(flatten)]
    event: &'a Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// The message, whose payload is the event in the JSON format; its key is left to the delivery.
pub(super) fn structured(
    mut event: Event,
    message: &Message,
) -> std::result::Result<Message, HandlerError> {
    let payload = message.payload();
    let content = Content::of(message.content_type());
    let mut data = None;
    match (content, std::str::from_utf8(payload)) {
        (Some(Content::Json), _) => {
            let json = serde_json::from_slice::<&RawValue>(payload).map_err(Unfit::NotJson);
            data = Some(json.map_err(HandlerError::reject)?);
        }
        (Some(Content::Text), Ok(text)) => {
            event.set_data_unchecked(text);
        }
        _ => {
            event.set_data_unchecked(payload.to_vec());
        }
    }
    let event = Structured {
        event: &event,
        data,
    };
    let payload = serde_json::to_vec(&event).map_err(HandlerError::reject)?;
    let structured = Message::new(payload, STRUCTURED);
    let headers = message.headers().iter();
    Ok(headers.fold(structured, |structured, (name, value)| {
        structured.header(name, value)
    }))
}

/// The message, with the event's attributes in its headers.
pub(super) fn binary(
    event: Event,
    message: &Message,
    binding: Binding,
) -> std::result::Result<Message, HandlerError> {
    let headers = Headers {
        message: message.clone(),
        binding,
    };
    event
        .deserialize_binary(headers)
        .map_err(HandlerError::reject)
}

struct Headers {
    message: Message,
    binding: Binding,
}

impl Headers {
    fn set(self, name: &str, value: String) -> Self {
        let Self { message, binding } = self;
        let message = match (binding, name) {
            // Sinks send the content type of every message.
            (Binding::Http | Binding::Kafka, "datacontenttype") => message,
            (Binding::Kafka, _) => message.header(format!("ce_{name}"), value),
            (Binding::Http | Binding::Nats, _) => {
                let value = utf8_percent_encode(&value, ENCODED).to_string();
                message.header(format!("ce-{name}"), value)
            }
        };
        Self { message, binding }
    }
}

impl BinarySerializer<Message> for Headers {
    fn set_spec_version(self, version: SpecVersion) -> Result<Self> {
        Ok(self.set("specversion", version.to_string()))
    }

    fn set_attribute(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        let value = match value {
            // As in the JSON format: with `Z`.
            MessageAttributeValue::DateTime(time) => {
                time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
            }
            value => value.to_string(),
        };
        Ok(self.set(name, value))
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        self.set_attribute(name, value)
    }

    /// The data is the message's payload already.
    fn end_with_data(self, _data: Vec<u8>) -> Result<Message> {
        self.end()
    }

    fn end(self) -> Result<Message> {
        Ok(self.message)
    }
}
