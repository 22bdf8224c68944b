//! Transactions: what is sent in one is there as a whole, or not at all.

use std::time::Duration;

use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, KafkaResult},
    producer::{FutureProducer, Producer as _},
};
use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::producer::{Failure, Observer, Producer, Record};

/// How long librdkafka may take to notice that the time of a record has run out.
const NOTICE: Duration = Duration::from_secs(1);

/// Between looks at what is in flight.
const PAUSE: Duration = Duration::from_millis(1);

/// Transactions of one producer, one after the other, from when the first of them is sent.
pub(super) struct Transactions {
    config: ClientConfig,
    message_timeout: Duration,
    /// None where the last transaction did not come to an end: the next producer has the brokers abort it.
    producer: Mutex<Option<Producer>>,
}

impl Transactions {
    pub(super) fn new(config: ClientConfig, message_timeout: Duration) -> Self {
        Self {
            config,
            message_timeout,
            producer: Mutex::default(),
        }
    }

    /// Sends records in one transaction.
    pub(super) async fn send<'a>(
        &self,
        records: impl IntoIterator<Item = Record<'a>>,
    ) -> Result<(), Failure> {
        let mut idle = self.producer.lock().await;
        let deadline = Instant::now() + self.message_timeout + NOTICE;
        let producer = match idle.take() {
            Some(producer) => producer,
            None => self.producer(deadline).await?,
        };
        let sends = records
            .into_iter()
            .map(|record| producer.send(record, self.message_timeout));
        let sent = producer.transaction(join_all(sends), deadline).await;
        match producer.is_over() {
            true => drop_elsewhere(producer),
            false => *idle = Some(producer),
        }
        sent
    }

    /// A new producer, after which those before can send nothing any more.
    async fn producer(&self, deadline: Instant) -> Result<Producer, Failure> {
        let producer = Producer::new(&self.config)?;
        let initialized = producer
            .call(FutureProducer::init_transactions, deadline)
            .await;
        match initialized {
            Ok(()) => Ok(producer),
            Err(failure) => {
                drop_elsewhere(producer);
                Err(failure)
            }
        }
    }
}

/// What is over takes a while to drop.
fn drop_elsewhere(producer: Producer) {
    spawn_blocking(|| drop(producer));
}

impl Producer {
    /// Commits what is sent meanwhile where all of it was acknowledged, else aborts it.
    async fn transaction(
        &self,
        sends: impl Future<Output = Vec<Result<(), Failure>>>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        self.call(|producer, _| producer.begin_transaction(), deadline)
            .await?;
        let sent = sends.await;
        // The last of the reports is being put away; a commit that met it would ask again in 100 ms only.
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        let failed: Vec<_> = sent.into_iter().filter_map(Result::err).collect();
        let cause = failed.iter().find(|failure| !failure.is_of_another());
        let done = match cause {
            Some(cause) => {
                if let Failure::Unacknowledged(_) = cause {
                    // librdkafka has counted the records, the broker has not, and would refuse the next for the gap.
                    self.end();
                }
                Err(cause.clone())
            }
            // It fails where a record did, and says why.
            None => {
                self.call(FutureProducer::commit_transaction, deadline)
                    .await
            }
        };
        if done.is_err() && !self.is_over() {
            // Where that fails the producer is over, and the next one has it aborted.
            let _ = self.call(FutureProducer::abort_transaction, deadline).await;
        }
        done
    }

    /// Has librdkafka do something about a transaction, which may take until the deadline: until then it tries again by itself.
    ///
    /// The producer is over where librdkafka does not say how to go on.
    async fn call(
        &self,
        call: fn(&FutureProducer<Observer>, Duration) -> KafkaResult<()>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let producer = self.producer.clone();
        let timeout = deadline.saturating_duration_since(Instant::now());
        let called = spawn_blocking(move || call(&producer, timeout)).await;
        let error = match called {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_ended) => KafkaError::Canceled,
        };
        match &error {
            KafkaError::Transaction(error) if error.txn_requires_abort() => {}
            _ => self.end(),
        }
        Err(self.failed(&error))
    }
}
