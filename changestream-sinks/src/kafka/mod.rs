mod batch;
mod failure;
mod header;
mod producer;
mod settings;
mod topic;
mod transaction;

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use changestream_core::{Delivery, Error, HandlerError, SinkSpec, Template};
use tower::{Service, service_fn};

use producer::{Failure, Record, Shared};
use settings::Settings;
use transaction::Transactions;

/// How many deliveries a sink may have under way: batches are made of them.
const CONCURRENCY: usize = 1024;
/// How many of them go into one transaction: others gather meanwhile.
const TRANSACTION: usize = CONCURRENCY / 2;

/// Sends each message as one record to a Kafka topic, and counts it as delivered when all in-sync replicas have it.
///
/// The record's value is the message's payload, its key the message's key, which is the event's unless the handler
/// set another. The topic is a [`Template`]: `orders`, or `shop.{collection}`. As any sink it has 10 s per attempt and
/// three retries from 1 s, and unlike others 1,024 deliveries at a time, of which batches are made; [`SinkSpec`] changes
/// that. Delivery is at least once: a consumer tells repeats by the header
/// `id`.
///
/// # Headers
///
/// | header | value |
/// | --- | --- |
/// | `id` | [`Delivery::id`], the same on every attempt and after every restart |
/// | `event-id` | [`Delivery::event_id`], which messages of one event share |
/// | `source` | the runtime's name, or what [`source`](Self::source) says |
/// | `content-type` | the message's content type |
/// | `correlation-id` | the header of that name where one is set, else the event id |
///
/// To these come the sink's own [`header`](Self::header)s, and the message's, which win over the sink's. A message with a
/// header whose name is empty, has control characters, or is one of the first four, however it is written, is rejected.
///
/// # Transactions
///
/// With the [option](Self::option) `transactional.id`, messages that come while others are under way go into one
/// transaction, up to 512 of them, and each topic's in one of its own. They count as delivered when it is committed, and
/// consumers with `read_committed` never see an attempt that failed. A producer that comes later with the same id shuts
/// out the one before: each process that runs at the same time, and each sink in it, needs one of its own.
///
/// # Connections
///
/// The sink connects at its first delivery, and again whenever it has to. Its clones share one idempotent producer of
/// librdkafka, which ends with the last of them: that takes a fifth of a second. What librdkafka logs goes to
/// `tracing`, with the target `librdkafka`.
///
/// Errors name the brokers and the topic, never a key, a header's value or the payload.
///
/// # Example
///
/// ```
/// use changestream_core::SinkSpec;
/// use changestream_sinks::KafkaSink;
///
/// # fn sink(password: &str) -> Result<SinkSpec, changestream_core::Error> {
/// let sink = KafkaSink::new("kafka-1:9092,kafka-2:9092", "shop.{collection}")?
///     .option("security.protocol", "sasl_plaintext")?
///     .option("sasl.mechanism", "PLAIN")?
///     .option("sasl.username", "shop")?
///     .option("sasl.password", password)?;
/// let sink = SinkSpec::from(sink).retries(5);
/// # Ok(sink)
/// # }
/// # sink("secret").unwrap();
/// ```
#[derive(Clone)]
pub struct KafkaSink {
    topic: Template,
    source: Option<Arc<str>>,
    headers: Arc<BTreeMap<String, String>>,
    connection: Arc<Connection>,
}

/// What clones of a sink share.
struct Connection {
    settings: Settings,
    shared: Shared,
    /// For what was refused in a batch with others.
    alone: Shared,
    was_refused_in_a_batch: AtomicBool,
    transactions: Transactions,
}

impl KafkaSink {
    /// A sink that sends to a topic of these brokers, `host:port` with commas between them, of which one that can be
    /// reached leads to the others. No connection is made yet.
    ///
    /// A topic that is not there is made by brokers that have `auto.create.topics.enable`; else messages wait for it.
    ///
    /// # Errors
    ///
    /// A configuration error when the brokers are not of that form, or when the topic is no [`Template`], or no name
    /// of a topic: up to 249 of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`. A message whose topic becomes none is rejected.
    pub fn new(brokers: impl AsRef<str>, topic: impl Into<String>) -> Result<Self, Error> {
        Ok(Self {
            topic: topic::parse(topic.into())?,
            source: None,
            headers: Arc::default(),
            connection: Arc::new(Connection::new(Settings::new(brokers.as_ref())?)),
        })
    }

    /// Sets a property of librdkafka, as its `CONFIGURATION.md` names and describes them. Its value is kept out of
    /// logs, errors about it and `Debug` where it may be a secret.
    ///
    /// | property | default of the sink |
    /// | --- | --- |
    /// | `client.id` | `changestream` |
    /// | `linger.ms` | 1 |
    /// | `message.timeout.ms` | 8000: keep it two seconds under the sink's timeout ([`SinkSpec::timeout`]) |
    /// | `partitioner` | `murmur2_random`, that of the Java clients |
    /// | `reconnect.backoff.max.ms` | 1000 |
    /// | `topic.metadata.propagation.max.ms` | 5000 |
    /// | `transaction.timeout.ms` | 15000, where there is a `transactional.id` |
    ///
    /// # Errors
    ///
    /// A configuration error when there is no such property, when its value is not valid or does not go with the
    /// properties that are set, when it needs what is not built in, as `security.protocol` `ssl` does (the error
    /// says how to add it), or when the sink relies on another value: `acks`, `bootstrap.servers`,
    /// `delivery.report.only.error`, `enable.gapless.guarantee`, `enable.idempotence`, `queuing.strategy`. Whether
    /// properties of logins and of encryption go together shows at the first delivery.
    pub fn option(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self, Error> {
        let mut settings = self.connection.settings.clone();
        settings.set(name.as_ref(), value.as_ref())?;
        self.connection = Arc::new(Connection::new(settings));
        Ok(self)
    }

    /// Sends this header with every message. Its value is kept out of logs, errors and `Debug`.
    ///
    /// # Errors
    ///
    /// A configuration error when the name is empty or has control characters, or is that of a header that the sink
    /// sets.
    pub fn header(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, Error> {
        let name = name.into();
        header::check(&name).map_err(Error::configuration)?;
        Arc::make_mut(&mut self.headers).insert(name, value.into());
        Ok(self)
    }

    /// Sets the header `source`, which is the runtime's name by default.
    #[must_use]
    pub fn source(mut self, source: impl Into<Arc<str>>) -> Self {
        self.source = Some(source.into());
        self
    }

    async fn send(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        let topic = self.topic_of(delivery)?;
        let record = || self.record(&topic, delivery);
        self.connection.send(&topic, record).await
    }

    /// Where a delivery goes, if its headers may go along.
    fn topic_of(&self, delivery: &Delivery) -> Result<String, HandlerError> {
        let names = delivery.message().headers().keys();
        let checked = names.map(String::as_str).try_for_each(header::check);
        checked.map_err(HandlerError::reject)?;
        topic::of(&self.topic, delivery)
    }

    fn record<'a>(&self, topic: &'a str, delivery: &'a Delivery) -> Record<'a> {
        let message = delivery.message();
        let record = Record::to(topic)
            .payload(message.payload())
            .headers(header::of(delivery, self.source.as_deref(), &self.headers));
        match message.get_key() {
            Some(key) => record.key(key),
            None => record,
        }
    }
}

impl Connection {
    fn new(settings: Settings) -> Self {
        let timeout = settings.message_timeout();
        Self {
            shared: Shared::new(settings.config(), timeout),
            alone: Shared::new(settings.config_without_batches(), timeout),
            was_refused_in_a_batch: AtomicBool::new(false),
            transactions: Transactions::new(settings.config(), timeout),
            settings,
        }
    }

    async fn send<'a>(
        &self,
        topic: &str,
        record: impl Fn() -> Record<'a>,
    ) -> Result<(), HandlerError> {
        let sent = match self.shared.send(&record).await {
            Err(Failure::Unacknowledged(cause)) if failure::is_of_a_batch(cause.code) => {
                if !self.was_refused_in_a_batch.swap(true, Relaxed) {
                    tracing::warn!(
                        code = %cause.code, topic, "a batch was refused: its messages are sent one by one, as will be those of others"
                    );
                }
                self.alone.send(record).await
            }
            sent => sent,
        };
        sent.map_err(|failure| self.judge(topic, &failure))
    }

    /// Why a record was not delivered, and what happens next.
    fn judge(&self, topic: &str, failure: &Failure) -> HandlerError {
        let brokers = &self.settings.brokers;
        match failure {
            Failure::NoProducer(problem) => HandlerError::retry(format!(
                "librdkafka does not take the options of the Kafka sink for `{brokers}`: {problem}"
            )),
            Failure::Unsent(cause) | Failure::Unacknowledged(cause) => {
                failure::judge(brokers, topic, cause.clone())
            }
        }
    }
}

impl From<KafkaSink> for SinkSpec {
    fn from(sink: KafkaSink) -> Self {
        let sink = Arc::new(sink);
        let spec = match sink.connection.settings.is_transactional() {
            true => {
                let sink = Arc::clone(&sink);
                Self::batched(
                    TRANSACTION,
                    service_fn(move |batch| Arc::clone(&sink).send_all(batch)),
                )
            }
            false => Self::new(KafkaService(Arc::clone(&sink))),
        };
        spec.renders([&sink.topic]).concurrency(CONCURRENCY)
    }
}

/// What a sink does; apart from it, so that nobody forgets the documents that the topic is made of.
#[derive(Clone)]
struct KafkaService(Arc<KafkaSink>);

impl Service<Delivery> for KafkaService {
    type Response = ();
    type Error = HandlerError;
    type Future = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let sink = Arc::clone(&self.0);
        Box::pin(async move { sink.send(&delivery).await })
    }
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { brokers, .. } = &self.connection.settings;
        f.debug_struct("KafkaSink")
            .field("brokers", brokers)
            .field("topic", &self.topic)
            .field("source", &self.source)
            .field("headers", &self.headers.keys())
            .field("options", &self.connection.settings.names())
            .finish_non_exhaustive()
    }
}
