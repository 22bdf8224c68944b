//! Producers: made at the first delivery, shared, and made anew when they are of no use any more.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use tokio::time::{Instant, sleep};

/// Between tries where the queue is full.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) type Record<'a> = FutureRecord<'a, str, [u8]>;

/// One producer for all who send, from when the first of them does.
pub(super) struct Shared {
    config: ClientConfig,
    message_timeout: Duration,
    producer: Mutex<Option<Producer>>,
}

#[derive(Clone)]
pub(super) struct Producer {
    pub(super) producer: FutureProducer<Observer>,
    observer: Observer,
    is_over: Arc<AtomicBool>,
}

/// Why a record was not acknowledged.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// librdkafka does not take the properties, for this reason.
    NoProducer(String),
    /// It was not taken in.
    Unsent(Cause),
    /// It was on its way: the verdict may be a broker's.
    Unacknowledged(Cause),
}

/// What librdkafka or a broker says, with words where librdkafka has some.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) code: RDKafkaErrorCode,
    words: Option<Arc<str>>,
}

impl From<RDKafkaErrorCode> for Cause {
    fn from(code: RDKafkaErrorCode) -> Self {
        Self { code, words: None }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => f.write_str(words),
            None => self.code.fmt(f),
        }
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.words.as_ref().map(|_| &self.code as _)
    }
}

impl Failure {
    pub(super) fn code(&self) -> Option<RDKafkaErrorCode> {
        match self {
            Self::NoProducer(_) => None,
            Self::Unsent(cause) | Self::Unacknowledged(cause) => Some(cause.code),
        }
    }

    /// Whether it only says that something else in its transaction failed.
    pub(super) fn is_of_another(&self) -> bool {
        use RDKafkaErrorCode::{PurgeInflight, PurgeQueue, State};
        match self {
            Self::NoProducer(_) => false,
            Self::Unsent(cause) => cause.code == State,
            Self::Unacknowledged(cause) => matches!(cause.code, PurgeInflight | PurgeQueue),
        }
    }
}

impl Shared {
    pub(super) fn new(config: ClientConfig, message_timeout: Duration) -> Self {
        Self {
            config,
            message_timeout,
            producer: Mutex::default(),
        }
    }

    /// Sends a record, and once more where that was the end of the producer.
    pub(super) async fn send<'a>(&self, record: impl Fn() -> Record<'a>) -> Result<(), Failure> {
        let producer = self.producer()?;
        match producer.send(record(), self.message_timeout).await {
            Err(_) if producer.is_over() => {
                let renewed = self.producer()?;
                renewed.send(record(), self.message_timeout).await
            }
            sent => sent,
        }
    }

    /// The producer, a new one where there is none that works.
    fn producer(&self) -> Result<Producer, Failure> {
        let mut current = lock(&self.producer);
        if let Some(producer) = current.as_ref().filter(|producer| !producer.is_over()) {
            return Ok(producer.clone());
        }
        let new = Producer::new(&self.config)?;
        let old = current.replace(new.clone());
        drop(current);
        if old.is_some() {
            tracing::warn!("a Kafka producer came to its end and was made anew");
        }
        Ok(new)
    }
}

impl Producer {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, Failure> {
        let observer = Observer::default();
        let mut config = config.clone();
        // What is logged now, not when the sink was made.
        config.log_level = ClientConfig::new().log_level;
        let producer = config.create_with_context(observer.clone());
        let producer = producer.map_err(|error| {
            Failure::NoProducer(match error {
                KafkaError::ClientCreation(problem) => problem,
                error => error.to_string(),
            })
        })?;
        Ok(Self {
            producer,
            observer,
            is_over: Arc::default(),
        })
    }

    pub(super) async fn send(
        &self,
        mut record: Record<'_>,
        patience: Duration,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        let sending = loop {
            match self.producer.send_result(record) {
                Ok(sending) => break sending,
                Err((error, again)) => match code(&error) {
                    RDKafkaErrorCode::QueueFull if begin.elapsed() < patience => {
                        record = again;
                        sleep(PAUSE).await;
                    }
                    code => return Err(Failure::Unsent(self.judge(code))),
                },
            }
        };
        match sending.await {
            Ok(Ok(_)) => {
                self.observer.forget();
                Ok(())
            }
            Ok(Err((error, _))) => Err(Failure::Unacknowledged(self.judge(code(&error)))),
            Err(_canceled) => Err(Failure::Unacknowledged(
                RDKafkaErrorCode::PurgeInflight.into(),
            )),
        }
    }

    /// Takes note of whether another producer is needed; the error, or what is behind one that only says that there is
    /// another.
    fn judge(&self, code: RDKafkaErrorCode) -> Cause {
        // librdkafka cannot tell what is there, and sends nothing any more.
        let fatal = self.producer.client().fatal_error();
        if fatal.is_some() || is_fenced(code) {
            self.end();
        }
        let cause = match code {
            RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::OperationTimedOut => {
                self.observer.last()
            }
            RDKafkaErrorCode::Fatal | RDKafkaErrorCode::PurgeQueue => {
                fatal.map(|(code, words)| Cause {
                    code,
                    words: Some(words.into()),
                })
            }
            _ => None,
        };
        cause.unwrap_or_else(|| code.into())
    }

    /// Why a transaction failed.
    pub(super) fn failed(&self, error: &KafkaError) -> Failure {
        Failure::Unacknowledged(self.judge(code(error)))
    }

    /// Has nobody send with it any more.
    pub(super) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }
}

/// Whether the brokers know the producer under another epoch. librdkafka counts its own on, which does not help where
/// they have forgotten or never learned that.
fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::InvalidProducerIdMapping
            | RDKafkaErrorCode::ProducerFenced
    )
}

fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
}

/// Logs what librdkafka has to say, and keeps its last error for those whose time runs out meanwhile.
#[derive(Clone, Default)]
pub(super) struct Observer(Arc<Mutex<Option<Cause>>>);

impl Observer {
    fn last(&self) -> Option<Cause> {
        lock(&self.0).clone()
    }

    fn forget(&self) {
        *lock(&self.0) = None;
    }
}

impl ClientContext for Observer {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            // What cannot be reached shows in the deliveries too.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let words = words(reason);
        if let Some(words) = words {
            tracing::debug!(target: "librdkafka", "{words}");
        }
        let code = code(&error);
        let mut last = lock(&self.0);
        // That all are down is said after why the last one is, and what OpenSSL has left of a failure may be taken for why the next
        // connection ends.
        let is_repeated = match code {
            RDKafkaErrorCode::AllBrokersDown => true,
            RDKafkaErrorCode::BrokerTransportFailure => reason.contains("SSL routines:"),
            _ => false,
        };
        if last.is_none() || !is_repeated {
            let words = words.map(Arc::from);
            *last = Some(Cause { code, words });
        }
    }
}

/// What may be shown of a reason, without how long it took and how often it happened. Of a token that could not be had, librdkafka
/// quotes the options, and what the identity provider answered.
fn words(reason: &str) -> Option<&str> {
    if reason.contains("OAUTHBEARER") {
        return None;
    }
    Some(match reason.rsplit_once(" (after ") {
        Some((words, _)) => words,
        None => reason,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openssl_left_of_a_failure_does_not_take_its_place() {
        let observer = Observer::default();
        let said = |code, reason| {
            observer.error(KafkaError::Global(code), reason);
            observer.last().map(|last| last.to_string())
        };
        let untrusted = "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: verify that \
                         ssl.ca.location is correctly configured";
        let first = said(RDKafkaErrorCode::SSL, untrusted);
        let left = "error:0A000086:SSL routines::certificate verify failed";
        let transport = RDKafkaErrorCode::BrokerTransportFailure;
        assert_eq!(said(transport, left), first);
        assert_eq!(
            said(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down"),
            first
        );
        assert_ne!(said(transport, "Connect failed: Connection refused"), first);
    }
}
