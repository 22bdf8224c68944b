mod address;
mod connection;
mod failure;
mod header;
mod publish;
mod subject;

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_nats::HeaderValue;
use changestream_core::{Delivery, Error, HandlerError, SinkSpec};
use tower::Service;

use address::Login;
use connection::Connection;
use subject::Subject;

/// Publishes each message to a subject of NATS: to a stream of JetStream, or to those who subscribe at that moment.
///
/// With [`jetstream`](Self::jetstream) a message is delivered when a stream has stored it and said so. Streams are the
/// operator's to create; where none takes the subject, deliveries are retried. With [`core`](Self::core) it is
/// delivered when the server has it, which hands it to the subscribers of that moment at most once: where there is
/// none, it is gone.
///
/// # Subjects
///
/// The subject is a [`Template`](changestream_core::Template), as `shop.{collection}.{operation}`. A value in it that
/// holds `.`, `*`, `>`, white space or a control character is rejected: it can neither part the subject further nor
/// lead to another one. So is a subject of over 1,024 bytes, and one that begins with `$` or `_INBOX.` because of its
/// values.
///
/// # Headers
///
/// | header | value |
/// | --- | --- |
/// | `Nats-Msg-Id` | runtime, sink and [`Delivery::id`], parted by `/`: a stream drops what comes with an id that it has had in the last two minutes, or whatever its `duplicate_window` is |
/// | `Idempotency-Key` | [`Delivery::id`], the same on every attempt and after every restart |
/// | `X-Event-ID` | [`Delivery::event_id`] |
/// | `X-Event-Source` | the runtime's name, or what [`source`](Self::source) says |
/// | `X-Correlation-ID` | the header of that name where one is set, else the event id |
/// | `Content-Type` | the message's content type |
/// | `Nats-Expected-Stream` | where one is [expected](Self::expect_stream) |
///
/// To these come the message's own. A message with a header that is not valid, or that is one of these but for
/// `X-Correlation-ID`, or whose name begins with `Nats-`, is rejected.
///
/// # Connection
///
/// The sink connects at its first delivery, one connection for all its clones, and again by itself whenever it is lost,
/// to any server of the cluster that the first one has named. Meanwhile deliveries fail and are retried. Up to 512
/// deliveries wait for their acknowledgements at a time, which
/// [`SinkSpec::concurrency`](changestream_core::SinkSpec::concurrency) changes. With `tls://`
/// the connection is encrypted or not made; with `nats://` it is encrypted where the server asks for it. Certificates
/// are checked against the roots that the operating system trusts; on Linux `SSL_CERT_FILE` and `SSL_CERT_DIR` name
/// others. Errors name the hosts and the template, never values, headers, payloads or logins.
///
/// # Example
///
/// ```
/// use changestream_core::SinkSpec;
/// use changestream_sinks::NatsSink;
///
/// # fn sink(token: &str) -> Result<SinkSpec, changestream_core::Error> {
/// let sink = NatsSink::jetstream("nats://nats.internal:4222", "shop.{collection}.{operation}")?.token(token);
/// let sink = SinkSpec::from(sink).retries(5);
/// # Ok(sink)
/// # }
/// # sink("secret").unwrap();
/// ```
#[derive(Clone)]
pub struct NatsSink {
    connection: Arc<Connection>,
    mode: Mode,
    subject: Subject,
    source: Option<HeaderValue>,
    expected_stream: Option<HeaderValue>,
    ack_timeout: Duration,
}

/// Deliveries at a time: they wait for acknowledgements on one connection, which costs nothing.
const CONCURRENCY: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    JetStream,
    Core,
}

impl NatsSink {
    /// Half of what an attempt has, so that its error is ours.
    const ACK_TIMEOUT: Duration = Duration::from_secs(5);

    /// A sink that publishes to the stream that takes the subject, and waits for its acknowledgement.
    ///
    /// The URL is `nats://` or `tls://`, a host and a port, by default 4222; several servers of a cluster are parted
    /// by commas. It may carry a login, `user:password@` or `token@`, percent-encoded, which is kept out of logs, errors
    /// and `Debug`.
    ///
    /// # Errors
    ///
    /// A configuration error when the URL or the subject is not valid, or when the system's trusted certificates cannot
    /// be loaded for `tls://`.
    pub fn jetstream(url: impl AsRef<str>, subject: impl Into<String>) -> Result<Self, Error> {
        Self::new(Mode::JetStream, url.as_ref(), subject.into())
    }

    /// A sink that publishes to whoever subscribes, and waits until the server has the message.
    ///
    /// # Errors
    ///
    /// Those of [`jetstream`](Self::jetstream).
    pub fn core(url: impl AsRef<str>, subject: impl Into<String>) -> Result<Self, Error> {
        Self::new(Mode::Core, url.as_ref(), subject.into())
    }

    fn new(mode: Mode, url: &str, subject: String) -> Result<Self, Error> {
        let (servers, login) = address::parse(url)?;
        Ok(Self {
            connection: Arc::new(Connection::new(servers, login)?),
            mode,
            subject: Subject::new(subject)?,
            source: None,
            expected_stream: None,
            ack_timeout: Self::ACK_TIMEOUT,
        })
    }

    /// Logs in with a token.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        self.login(Login::Token(token.into()))
    }

    /// Logs in with a name and a password.
    #[must_use]
    pub fn user(self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.login(Login::User {
            name: name.into(),
            password: password.into(),
        })
    }

    /// Logs in with the credentials in this file, a JWT and its seed, as `nsc` writes it. It is read when the sink
    /// connects for the first time; until it can be, deliveries are retried.
    #[must_use]
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        self.login(Login::CredentialsFile(path.into()))
    }

    fn login(mut self, login: Login) -> Self {
        Arc::make_mut(&mut self.connection).login = login;
        self
    }

    /// Sets `X-Event-Source`, which is the runtime's name by default.
    ///
    /// # Errors
    ///
    /// A configuration error when `source` is not a valid header value.
    pub fn source(mut self, source: impl AsRef<str>) -> Result<Self, Error> {
        self.source = Some(header::source(source.as_ref())?);
        Ok(self)
    }

    /// Lets no other stream than this one take the messages; deliveries are retried as long as another one does.
    ///
    /// # Errors
    ///
    /// A configuration error when the name is none of a stream, or when the sink is of core NATS, which has none.
    pub fn expect_stream(mut self, name: impl AsRef<str>) -> Result<Self, Error> {
        if self.mode == Mode::Core {
            return Err(Error::configuration(
                "a sink of core NATS has no stream; make it with `NatsSink::jetstream(..)`",
            ));
        }
        self.expected_stream = Some(header::stream(name.as_ref())?);
        Ok(self)
    }

    /// How long an acknowledgement is waited for, 5 s by default. More than the
    /// [`SinkSpec::timeout`](changestream_core::SinkSpec::timeout) of 10 s, which counts connecting in, has no effect.
    #[must_use]
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }
}

/// The sink as a service, which it becomes together with what its subject is made of.
#[derive(Clone)]
struct Publisher(Arc<NatsSink>);

impl Service<Delivery> for Publisher {
    type Response = ();
    type Error = HandlerError;
    type Future = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let Self(sink) = self.clone();
        Box::pin(async move { publish::deliver(&sink, &delivery).await })
    }
}

impl From<NatsSink> for SinkSpec {
    fn from(sink: NatsSink) -> Self {
        let template = sink.subject.template().clone();
        let spec = Self::new(Publisher(Arc::new(sink))).renders([&template]);
        spec.concurrency(CONCURRENCY)
    }
}

impl fmt::Debug for NatsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSink")
            .field("hosts", &self.connection.servers.hosts)
            .field("mode", &self.mode)
            .field("subject", self.subject.template())
            .field("source", &self.source)
            .field("ack_timeout", &self.ack_timeout)
            .finish_non_exhaustive()
    }
}
