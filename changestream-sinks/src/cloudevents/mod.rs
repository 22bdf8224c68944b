mod binding;
mod content;
mod event;

use std::sync::Arc;

use binding::Binding;
use changestream_core::{Delivery, Error, HandlerError, Message, SinkSpec, Template};
use iri_string::types::UriReferenceStr;

/// Sends each message to a sink as a [CloudEvents](https://cloudevents.io) 1.0 event.
///
/// It goes [`around`](Self::around) any sink, in the mode that suits it. Retries, timeouts and dead letters are the
/// sink's, and a dead letter has the handler's message, of which a replay makes the same event.
///
/// # Attributes
///
/// | attribute | value |
/// | --- | --- |
/// | `id` | [`Delivery::id`], the same on every attempt and after every restart |
/// | `source` | `/changestream/` and the runtime's name, or what [`source`](Self::source) says |
/// | `type` | database, collection and operation, as `shop.orders.update`, or what [`event_type`](Self::event_type) says |
/// | `subject`, `partitionkey` | the message's key, where it has one |
/// | `time` | when the change was written, by the server's clock |
/// | `datacontenttype` | the message's content type |
///
/// The message's headers stay headers.
///
/// # Modes
///
/// | mode | attributes | payload | content type |
/// | --- | --- | --- | --- |
/// | [`structured`](Self::structured) | in the payload | the event as JSON, with the message's payload in `data` or `data_base64` | `application/cloudevents+json` |
/// | [`http_binary`](Self::http_binary) | headers `ce-id`, .., percent-encoded | the message's | the message's |
/// | [`nats_binary`](Self::nats_binary) | the same, and `ce-datacontenttype` | the message's | the message's |
/// | [`kafka_binary`](Self::kafka_binary) | headers `ce_id`, .., in UTF-8 | the message's | the message's |
///
/// # Rejections
///
/// A message is rejected when it cannot be an event: with a payload that is not the JSON that its content type says
/// (structured mode), a content type that is no media type, a header of its own that begins with `ce-` or `ce_`, or a key
/// or type with control characters.
///
/// # Example
///
/// ```
/// use changestream_core::SinkSpec;
/// # use changestream_core::{Delivery, HandlerError};
/// use changestream_sinks::CloudEvents;
///
/// # fn sink(sink: changestream_core::testing::RecordingSink) -> Result<SinkSpec, changestream_core::Error> {
/// let sink = CloudEvents::structured()
///     .source("https://shop.example/orders")?
///     .event_type("example.shop.{collection}.{operation}")?
///     .around(sink);
/// # Ok(sink)
/// # }
/// # sink(Default::default()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct CloudEvents {
    mode: Mode,
    source: Option<String>,
    event_type: Option<Template>,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Structured,
    Binary(Binding),
}

impl CloudEvents {
    /// Events in the JSON format, for any sink: the payload is the whole event.
    ///
    /// A JSON payload (`application/json`, `*/*+json`) is `data` as it is, byte for byte. Text (`text/*`, `*/xml`,
    /// `*/*+xml`) is `data` as a string where it is UTF-8, and what is left is `data_base64`.
    pub fn structured() -> Self {
        Self::new(Mode::Structured)
    }

    /// Events whose attributes are HTTP headers (*HTTP Protocol Binding for CloudEvents* 1.0.2, "Binary Content Mode"):
    /// the payload stays as it is.
    pub fn http_binary() -> Self {
        Self::new(Mode::Binary(Binding::Http))
    }

    /// Events whose attributes are headers of Kafka records (*Kafka Protocol Binding for CloudEvents* 1.0.2, "Binary
    /// Content Mode"): the payload stays as it is.
    pub fn kafka_binary() -> Self {
        Self::new(Mode::Binary(Binding::Kafka))
    }

    /// Events whose attributes are NATS headers (*NATS Protocol Binding for CloudEvents* 1.0.3, a draft, "Binary Content
    /// Mode"; 1.0.2 knows structured mode only): the payload stays as it is.
    pub fn nats_binary() -> Self {
        Self::new(Mode::Binary(Binding::Nats))
    }

    fn new(mode: Mode) -> Self {
        Self {
            mode,
            source: None,
            event_type: None,
        }
    }

    /// Sets `source`, which is `/changestream/` and the runtime's name by default, percent-encoded.
    ///
    /// Source and `id` together tell an event from all others: two runtimes with handlers of one name need two sources.
    ///
    /// # Errors
    ///
    /// A configuration error when `source` is empty or no URI-reference (RFC 3986).
    pub fn source(mut self, source: impl Into<String>) -> Result<Self, Error> {
        let source = source.into();
        if source.is_empty() || UriReferenceStr::new(&source).is_err() {
            return Err(Error::configuration(format!(
                "the source {source:?} of CloudEvents is no URI-reference; write it like `https://shop.example/orders` or \
                 `/shop/orders`, other characters percent-encoded"
            )));
        }
        self.source = Some(source);
        Ok(self)
    }

    /// Sets `type` to a [`Template`], as `example.shop.{collection}.{operation}`. By default it is
    /// `{database}.{collection}.{operation}`, without the collection where the event has none.
    ///
    /// # Errors
    ///
    /// Those of [`Template::new`].
    pub fn event_type(mut self, template: impl Into<String>) -> Result<Self, Error> {
        self.event_type = Some(Template::new(template)?);
        Ok(self)
    }

    /// A sink that sends events. What was set on it before, with [`SinkSpec::map`] or [`SinkSpec::layer`], sees the handler's
    /// message; what is set on it later sees the event's.
    ///
    /// The server is asked for the documents that [`event_type`](Self::event_type) takes values of.
    #[must_use]
    pub fn around(self, sink: impl Into<SinkSpec>) -> SinkSpec {
        let sink = sink.into().renders(&self.event_type);
        let events = Arc::new(self);
        sink.map(move |delivery| events.message(delivery).map(Some))
    }

    fn message(&self, delivery: &Delivery) -> Result<Message, HandlerError> {
        let event = event::of(self, delivery)?;
        match self.mode {
            Mode::Structured => binding::structured(event, delivery.message()),
            Mode::Binary(binding) => binding::binary(event, delivery.message(), binding),
        }
    }
}
