use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer as _, StreamConsumer},
    message::{BorrowedMessage, Headers as _},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::DEADLINE;

/// What a consumer got.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    pub(crate) payload: Option<Vec<u8>>,
    /// In their order.
    pub(crate) headers: Vec<(String, String)>,
}

impl Read {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let headers = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter());
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(text),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: headers
                .map(|header| {
                    (
                        header.key.to_owned(),
                        header.value.map(text).expect("a value"),
                    )
                })
                .collect(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        let payload = self.payload.as_deref().expect("a payload");
        std::str::from_utf8(payload).expect("UTF-8")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let headers: BTreeMap<_, _> = self.headers.iter().cloned().collect();
        assert_eq!(
            headers.len(),
            self.headers.len(),
            "each header is there once"
        );
        let mut values = self.headers.iter().filter(|(of, _)| of == name);
        &values.next().expect(name).1
    }
}

/// Reads all partitions of a topic from their beginnings, until it is dropped.
pub(crate) struct Reader {
    read: Arc<Mutex<Vec<Read>>>,
    task: JoinHandle<()>,
}

impl Reader {
    pub(crate) fn start(brokers: &str, topic: &str, partitions: i32) -> Self {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "unused")
            .set("enable.auto.commit", "false")
            .set("reconnect.backoff.max.ms", "100")
            .create()
            .expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&all).expect("partitions");
        let read = Arc::<Mutex<Vec<_>>>::default();
        let reading = Arc::clone(&read);
        let task = tokio::spawn(async move {
            loop {
                // What fails meanwhile is tried again by the consumer.
                if let Ok(message) = consumer.recv().await {
                    let mut read = reading.lock().expect("not poisoned");
                    read.push(Read::of(&message));
                }
            }
        });
        Self { read, task }
    }

    pub(crate) fn so_far(&self) -> Vec<Read> {
        self.read.lock().expect("not poisoned").clone()
    }

    /// Waits until `is_there` says so of what was read.
    pub(crate) async fn until(&self, is_there: impl Fn(&[Read]) -> bool) -> Vec<Read> {
        let begin = Instant::now();
        loop {
            let read = self.so_far();
            if is_there(&read) {
                return read;
            }
            assert!(begin.elapsed() < DEADLINE, "{} were read", read.len());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn read(&self, count: usize) -> Vec<Read> {
        self.until(|read| read.len() >= count).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn create_topic(brokers: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .expect("a client");
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let made = admin.create_topics([&new], &AdminOptions::new()).await;
    assert_eq!(made.expect("an answer"), [Ok(topic.to_owned())]);
}
