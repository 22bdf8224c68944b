//! What a handler returns, on its way to the sinks.

use std::{any::Any, collections::BTreeMap};

use bson::RawBsonRef;
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::SerializeStruct,
};

use crate::{
    handler::HandlerError,
    json::{Encoded, Form, Json},
};

/// The content type of messages that are made of serializable values.
const JSON: &str = "application/json";

/// One message to a sink: a payload, and what the receiver is told about it.
///
/// A handler that returns any `impl Serialize` sends it as JSON without one of these. BSON types in it
/// take the form of MongoDB's relaxed Extended JSON: an object id is `{"$oid": ".."}`, a date
/// `{"$date": "2026-01-02T03:04:05Z"}`. [`Json`] has the forms of all types.
///
/// # Example
///
/// ```
/// use changestream_core::Message;
///
/// let message = Message::json(&serde_json::json!({ "sku": "A-1" }))?
///     .key("A-1")
///     .header("X-Priority", "high");
/// assert_eq!(&message.payload()[..], br#"{"sku":"A-1"}"#);
/// # Ok::<(), changestream_core::HandlerError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    payload: Bytes,
    key: Option<String>,
    headers: BTreeMap<String, String>,
    content_type: String,
    priority: Priority,
}

/// Which message leaves first, where several wait for one sink. Those of one key keep their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Priority {
    /// After all others.
    Low,
    /// As most do.
    #[default]
    Normal,
    /// Before all others.
    High,
}

impl Message {
    /// A message of these bytes.
    pub fn new(payload: impl Into<Bytes>, content_type: impl Into<String>) -> Self {
        Self {
            payload: payload.into(),
            key: None,
            headers: BTreeMap::new(),
            content_type: content_type.into(),
            priority: Priority::default(),
        }
    }

    /// `value` as JSON; what BSON has and JSON has not, as [`Json::relaxed`] says.
    ///
    /// # Errors
    ///
    /// A rejection when the value does not serialize to BSON, the form it passes through: a number over
    /// `i64::MAX`, a map key that is no string.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, HandlerError> {
        Self::encoded(value, Form::Relaxed)
    }

    /// The same for a receiver that knows nothing of BSON, as [`Json::plain`] says.
    ///
    /// # Errors
    ///
    /// Those of [`json`](Self::json).
    pub fn plain_json<T: Serialize + ?Sized>(value: &T) -> Result<Self, HandlerError> {
        Self::encoded(value, Form::Plain)
    }

    fn encoded<T: Serialize + ?Sized>(value: &T, form: Form) -> Result<Self, HandlerError> {
        let encoded = Encoded::of(value).map_err(HandlerError::reject)?;
        Self::of_json(Json::new(encoded.value(), form))
    }

    fn of_json(json: Json<'_>) -> Result<Self, HandlerError> {
        let payload = serde_json::to_vec(&json).map_err(HandlerError::reject)?;
        Ok(Self::new(payload, JSON))
    }

    /// Sets the key: what orders messages for the receiver. By default the event's key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the key where there is none.
    pub(crate) fn or_key(mut self, key: impl FnOnce() -> Option<String>) -> Self {
        self.key = self.key.or_else(key);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Says how urgent it is, for where it waits behind others for its sink; a dead letter does not keep that.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How urgent it is.
    pub fn get_priority(&self) -> Priority {
        self.priority
    }

    /// The payload read as JSON; BSON types are written as the handler's message has them.
    ///
    /// # Errors
    ///
    /// A rejection when it is not JSON of that type.
    pub fn parse_json<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        serde_json::from_slice(&self.payload).map_err(HandlerError::reject)
    }

    /// The bytes to send.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The key that was set.
    pub fn get_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The headers that were set, by name.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    /// What the payload is, as a MIME type.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }
}

/// As it is kept in a dead letter: `contentType`, `key`, `headers` and the payload in binary.
impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let payload = bson::Binary {
            subtype: bson::spec::BinarySubtype::Generic,
            bytes: self.payload.to_vec(),
        };
        let mut message = serializer.serialize_struct("Message", 4)?;
        message.serialize_field("contentType", &self.content_type)?;
        message.serialize_field("key", &self.key)?;
        message.serialize_field("headers", &self.headers)?;
        message.serialize_field("payload", &payload)?;
        message.end()
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kept {
            content_type: String,
            key: Option<String>,
            headers: BTreeMap<String, String>,
            payload: bson::Binary,
        }
        let kept = Kept::deserialize(deserializer)?;
        Ok(Self {
            payload: kept.payload.bytes.into(),
            key: kept.key,
            headers: kept.headers,
            content_type: kept.content_type,
            priority: Priority::default(),
        })
    }
}

/// What a handler may return: the messages that its sinks receive.
///
/// Implemented for everything that serializes. `()` and `None` are no message, a [`Message`] is itself,
/// whatever serializes as a sequence (a `Vec`) is a message for each element, anything else is one
/// message of JSON.
pub trait IntoMessages {
    /// The messages.
    ///
    /// # Errors
    ///
    /// A rejection when the value does not serialize, as [`Message::json`] says.
    fn into_messages(self) -> Result<Vec<Message>, HandlerError>;
}

impl<T: Serialize + 'static> IntoMessages for T {
    fn into_messages(self) -> Result<Vec<Message>, HandlerError> {
        let mut value = Some(self);
        let value: &mut dyn Any = &mut value;
        if value.is::<Option<()>>() {
            return Ok(Vec::new());
        }
        if let Some(message) = value.downcast_mut::<Option<Message>>() {
            return Ok(message.take().into_iter().collect());
        }
        if let Some(message) = value.downcast_mut::<Option<Option<Message>>>() {
            return Ok(message.take().flatten().into_iter().collect());
        }
        if let Some(messages) = value.downcast_mut::<Option<Vec<Message>>>() {
            return Ok(messages.take().unwrap_or_default());
        }
        let value = value
            .downcast_ref::<Option<T>>()
            .expect("the value's own type");
        let encoded = Encoded::of(value).map_err(HandlerError::reject)?;
        match encoded.value() {
            RawBsonRef::Null => Ok(Vec::new()),
            RawBsonRef::Array(values) => {
                let of_one = |value| Message::of_json(Json::relaxed(value));
                let values = values.into_iter();
                values
                    .map(|value| value.map_err(HandlerError::reject).and_then(of_one))
                    .collect()
            }
            value => Ok(vec![Message::of_json(Json::relaxed(value))?]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(value: impl IntoMessages) -> Vec<String> {
        let messages = value.into_messages().expect("messages");
        let text = |message: Message| String::from_utf8(message.payload.to_vec()).expect("UTF-8");
        messages.into_iter().map(text).collect()
    }

    #[test]
    fn nothing_is_no_message() {
        assert!(payloads(()).is_empty());
        assert!(payloads(None::<String>).is_empty());
    }

    #[test]
    fn a_sequence_is_a_message_for_each_element() {
        assert_eq!(payloads(vec![1, 2]), ["1", "2"]);
        assert_eq!(
            payloads(vec![
                Message::new("a", "text/plain"),
                Message::new("b", "text/plain")
            ]),
            ["a", "b"]
        );
    }

    #[test]
    fn a_message_stays_as_it_is() {
        let message = Message::new("<a/>", "application/xml");
        assert_eq!(payloads(message.clone()), ["<a/>"]);
        assert_eq!(payloads(Some(message)), ["<a/>"]);
        assert!(payloads(None::<Message>).is_empty());
    }

    #[test]
    fn bson_types_are_relaxed_extended_json() {
        let id = bson::oid::ObjectId::from_bytes([1; 12]);
        let value = bson::doc! { "id": id, "at": bson::DateTime::from_millis(0), "n": 5_i64 };
        assert_eq!(
            payloads(value),
            [
                r#"{"id":{"$oid":"010101010101010101010101"},"at":{"$date":"1970-01-01T00:00:00Z"},"n":5}"#
            ]
        );
    }

    #[test]
    fn what_does_not_serialize_is_rejected() {
        let error = u64::MAX.into_messages().expect_err("over i64::MAX");
        assert_eq!(error.disposition(), crate::handler::Disposition::Reject);
    }
}
