mod client;
mod guard;
mod header;
mod response;
mod webhook;

pub use webhook::{WebhookError, WebhookKey};

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use changestream_core::{Delivery, Error, HandlerError};
use reqwest::{
    Client, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tower::Service;

/// Sends each message as one HTTP POST, and counts it as delivered when the receiver answers 2xx.
///
/// The body is the message's payload: JSON, unless the handler made a
/// [`Message`](changestream_core::Message) of something else. As any sink it has 10 s per attempt and three
/// retries from 1 s, which [`SinkSpec`](changestream_core::SinkSpec) changes. Delivery is at least once: a
/// receiver tells repeats by `Idempotency-Key`.
///
/// # Headers
///
/// | header | value |
/// | --- | --- |
/// | `X-Event-ID` | [`Delivery::event_id`], the same on every attempt and after every restart |
/// | `Idempotency-Key` | [`Delivery::id`], which also tells apart messages of one event |
/// | `X-Event-Source` | the runtime's name, or what [`source`](Self::source) says |
/// | `X-Correlation-ID` | the header of that name where one is set, else the event id |
/// | `Content-Type` | the message's content type |
/// | `webhook-id`, `webhook-timestamp`, `webhook-signature` | where there is a key; see [`sign_with`](Self::sign_with) |
///
/// To these come the sink's own [`header`](Self::header)s, and the message's, which win over the sink's. A
/// message with a header that is not valid, or that is one of the first three, `Content-Type`, a signature's or one of
/// the connection's, is rejected.
///
/// # Answers
///
/// | answer | what happens |
/// | --- | --- |
/// | 2xx | delivered |
/// | 429, 503 | retried after `Retry-After` (seconds or a date, at most 60 s), else with backoff |
/// | 408, 425, other 5xx, no connection, no answer | retried with backoff |
/// | 3xx | rejected, since redirects are never followed |
/// | 410 | rejected, and so is everything after it, unsent, until the process starts anew; an error is logged |
/// | other 4xx | rejected |
///
/// Errors name the host and the status, never the path, the query, a header's value or the payload.
///
/// # Connections
///
/// Connections are kept alive and shared by the clones of a sink. TLS certificates are checked against the
/// roots that the operating system trusts; on Linux `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
/// Proxies in the environment are not used. A URL that comes from outside, as a customer's webhook, is for a sink that is
/// [`public_only`](Self::public_only).
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use changestream_core::SinkSpec;
/// use changestream_sinks::HttpSink;
///
/// # fn sink(token: &str) -> Result<SinkSpec, changestream_core::Error> {
/// let sink = HttpSink::new("http://fulfillment.internal/orders/events")?
///     .header("Authorization", format!("Bearer {token}"))?;
/// let sink = SinkSpec::new(sink).timeout(Duration::from_secs(3)).retries(5);
/// # Ok(sink)
/// # }
/// # sink("secret").unwrap();
/// ```
#[derive(Clone)]
pub struct HttpSink {
    client: Client,
    target: Arc<Target>,
}

#[derive(Clone)]
struct Target {
    url: Url,
    /// The host, with its port where it has one: all that errors show of the URL.
    host: Arc<str>,
    source: Option<HeaderValue>,
    headers: HeaderMap,
    keys: Vec<WebhookKey>,
    /// The receiver has said that it is for good.
    is_gone: Arc<AtomicBool>,
}

impl HttpSink {
    /// A sink that posts to `url`.
    ///
    /// # Errors
    ///
    /// A configuration error when the URL is not an absolute `http` or `https` URL, when it carries a user
    /// name or password, or when the system's trusted certificates cannot be loaded for an `https` one.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        let url = client::parse(url.as_ref())?;
        Ok(Self {
            client: client::build(&url)?,
            target: Arc::new(Target {
                host: client::host(&url).into(),
                url,
                source: None,
                headers: HeaderMap::new(),
                keys: Vec::new(),
                is_gone: Arc::default(),
            }),
        })
    }

    /// Sets `X-Event-Source`, which is the runtime's name by default.
    ///
    /// # Errors
    ///
    /// A configuration error when `source` is not a valid header value.
    pub fn source(mut self, source: impl AsRef<str>) -> Result<Self, Error> {
        let value = HeaderValue::from_bytes(source.as_ref().as_bytes()).map_err(|_| {
            Error::configuration("the source of an HTTP sink has control characters; remove them")
        })?;
        Arc::make_mut(&mut self.target).source = Some(value);
        Ok(self)
    }

    /// Sends this header with every message. Its value is kept out of logs, errors and `Debug`.
    ///
    /// # Errors
    ///
    /// A configuration error when the name or the value is not valid, or when the header is one that the
    /// sink or the connection sets.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self, Error> {
        let (name, mut value) =
            header::parse(name.as_ref(), value.as_ref()).map_err(Error::configuration)?;
        value.set_sensitive(true);
        Arc::make_mut(&mut self.target).headers.insert(name, value);
        Ok(self)
    }

    /// Signs every request with this key, for the receiver to know who sent it (specification *Standard Webhooks*). With
    /// several keys there is a signature of each: add the next key here, then give it to the receiver, then remove the
    /// first one.
    ///
    /// `webhook-id` is the delivery's id, the same on every attempt and after every restart, with `%2E` for a dot;
    /// `webhook-timestamp` is the attempt's. A receiver in Rust has [`WebhookKey::verify`], others the libraries of the
    /// specification.
    #[must_use]
    pub fn sign_with(mut self, key: WebhookKey) -> Self {
        Arc::make_mut(&mut self.target).keys.push(key);
        self
    }

    /// Connects to addresses of the public internet only, whatever the URL's name leads to: for URLs that are not the
    /// developer's own. Loopback, private, shared and link-local addresses, which those of clouds' metadata are among,
    /// and all others that are not public are refused, IPv4, IPv6 and IPv4 within IPv6. The name is resolved once
    /// for a connection, which is made to what was found. A message to a name that leads to no other address is rejected.
    ///
    /// # Errors
    ///
    /// A configuration error when the URL itself names such an address.
    pub fn public_only(mut self) -> Result<Self, Error> {
        self.client = client::build_guarded(&self.target.url)?;
        Ok(self)
    }
}

impl Service<Delivery> for HttpSink {
    type Response = ();
    type Error = HandlerError;
    type Future = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let Self { client, target } = self.clone();
        Box::pin(async move {
            if target.is_gone.load(Relaxed) {
                return Err(response::gone(&target.host));
            }
            let headers = header::of(&delivery, target.source.as_ref(), &target.headers);
            let mut headers = headers.map_err(HandlerError::reject)?;
            header::sign(&mut headers, &delivery, &target.keys).map_err(HandlerError::reject)?;
            let request = client
                .post(target.url.clone())
                .headers(headers)
                .body(delivery.message().payload().clone());
            response::judge(&target.host, &target.is_gone, request.send().await).await
        })
    }
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = self.target.headers.keys().map(HeaderName::as_str);
        f.debug_struct("HttpSink")
            .field("host", &self.target.host)
            .field("source", &self.target.source)
            .field("headers", &headers.collect::<Vec<_>>())
            .field("keys", &self.target.keys.len())
            .finish_non_exhaustive()
    }
}
