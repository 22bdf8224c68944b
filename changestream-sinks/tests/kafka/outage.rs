//! Brokers that go away while many messages are on their way.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use changestream_core::{
    HandlerError, HandlerSpec, MemoryDeadLetters, Message, RawChange, SinkSpec,
    testing::{TestRuntime, change},
};
use changestream_sinks::KafkaSink;
use changestream_testkit::{FaultProxy, KafkaServer};
use futures::stream;
use tokio::time::{sleep, timeout};

use crate::reader::{Read, Reader, create_topic};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
const KEYS: i32 = 500;
const EACH: i32 = 20;
const IN_FLIGHT: usize = 256;
/// How long a broker is out of reach.
const OUTAGE: Duration = Duration::from_secs(3);
const MINUTES: Duration = Duration::from_secs(180);

/// A broker that is reached by a proxy alone, with an empty topic.
struct Behind {
    server: KafkaServer,
    proxy: FaultProxy,
    reader: Reader,
}

impl Behind {
    async fn proxy(mut server: KafkaServer) -> Self {
        let proxy = FaultProxy::start(server.addr()).await.expect("a proxy");
        server.advertise(proxy.addr()).await.expect("advertised");
        let bootstrap = proxy.addr().to_string();
        create_topic(&bootstrap, TOPIC, PARTITIONS).await;
        Self {
            reader: Reader::start(&bootstrap, TOPIC, PARTITIONS),
            server,
            proxy,
        }
    }

    fn sink(&self) -> KafkaSink {
        KafkaSink::new(self.proxy.addr().to_string(), TOPIC).expect("a sink")
    }
}

/// Sends all updates through a runtime and this sink, and lets `fault` happen once 2,000 of them have arrived; what was read.
async fn run<F>(sink: KafkaSink, reader: &Reader, fault: impl FnOnce() -> F) -> Vec<Read>
where
    F: Future<Output = ()>,
{
    let letters = MemoryDeadLetters::default();
    let send = async |change: RawChange| {
        let n: Option<i32> = change
            .update_description()
            .and_then(|update| update.get("n").ok()?);
        Ok::<_, HandlerError>(Message::new(
            n.expect("it was set").to_string(),
            "text/plain",
        ))
    };
    let handler = HandlerSpec::new("send", send)
        .collections(["orders"])
        .to(["kafka"]);
    let runtime = TestRuntime::builder()
        .handlers([handler])
        .in_flight_events(IN_FLIGHT)
        .sink("kafka", SinkSpec::from(sink))
        .dead_letter_store(letters.clone())
        .drain_deadline(MINUTES)
        .build()
        .expect("a runtime");
    let update = |n, id| RawChange::from(change::update("orders").id(id).set("n", n));
    let batches = (0..EACH).map(|n| (0..KEYS).map(|id| update(n, id)).collect::<Vec<_>>());
    let batches = stream::iter(batches.collect::<Vec<_>>());
    let faulty = async {
        reader.read(2_000).await;
        fault().await;
    };
    let both = async { tokio::join!(runtime.run(batches), faulty) };
    timeout(MINUTES, both).await.expect("all in time");
    assert!(letters.letters().is_empty());
    reader
        .until(|read| ids(read).len() == (KEYS * EACH) as usize)
        .await
}

fn ids(read: &[Read]) -> BTreeSet<&str> {
    read.iter().map(|read| read.header("id")).collect()
}

/// That nothing is lost, and each key in order, but for repeats of what was in flight, which have the id of the first.
fn assert_all_in_order(read: &[Read]) {
    let mut by_key = BTreeMap::<_, Vec<i32>>::new();
    let mut seen = BTreeMap::new();
    for read in read {
        let n = read.text();
        let key = read.key.as_deref().expect("a key");
        match seen.insert(read.header("id"), (key, n)) {
            None => by_key
                .entry(key)
                .or_default()
                .push(n.parse().expect("a number")),
            again => assert_eq!(again, Some((key, n)), "a repeat is the same"),
        }
    }
    assert_eq!(by_key.len(), KEYS as usize);
    for (key, numbers) in by_key {
        assert!(numbers.into_iter().eq(0..EACH), "key {key}");
    }
    let repeats = read.len() - seen.len();
    println!("{repeats} came twice");
    assert!(repeats <= IN_FLIGHT, "{repeats} came twice");
}

/// Kills the broker, and starts it again.
async fn kill(behind: &Behind) {
    // Tansu notes the sequence number of a batch before it stores the batch. Killed in between, it takes the batch
    // for a duplicate that it has, which Kafka cannot: so it is cut off first.
    behind.proxy.cut().await;
    behind.proxy.refuse().await;
    sleep(OUTAGE).await;
    behind.server.kill().await.expect("killed");
    behind.server.restart().await.expect("restarted");
    behind.proxy.heal().await.expect("healed");
}

#[tokio::test]
async fn nothing_is_lost_when_the_broker_is_killed() {
    let server = KafkaServer::builder().durable();
    let behind = Behind::proxy(server.start().await.expect("a broker")).await;
    let read = run(behind.sink(), &behind.reader, || kill(&behind));
    assert_all_in_order(&read.await);
}

#[tokio::test]
async fn nothing_is_lost_in_transactions_when_the_broker_is_killed() {
    let server = KafkaServer::builder().durable();
    let behind = Behind::proxy(server.start().await.expect("a broker")).await;
    let sink = behind.sink().option("transactional.id", "shop");
    let read = run(sink.expect("an option"), &behind.reader, || kill(&behind));
    assert_all_in_order(&read.await);
}

#[tokio::test]
async fn nothing_is_lost_when_the_network_fails() {
    let behind = Behind::proxy(KafkaServer::start().await.expect("a broker")).await;
    let read = run(behind.sink(), &behind.reader, async || {
        behind.proxy.drop_replies().await.expect("dropped");
        sleep(Duration::from_millis(200)).await;
        behind.proxy.cut().await;
        behind.proxy.refuse().await;
        sleep(OUTAGE).await;
        behind.proxy.heal().await.expect("healed");
    });
    assert_all_in_order(&read.await);
}

#[tokio::test]
async fn nothing_is_lost_when_a_connection_falls_silent() {
    let behind = Behind::proxy(KafkaServer::start().await.expect("a broker")).await;
    let read = run(behind.sink(), &behind.reader, async || {
        behind.proxy.black_hole().await.expect("silent");
        // Longer than a record waits for its acknowledgement.
        sleep(Duration::from_secs(12)).await;
        behind.proxy.heal().await.expect("healed");
    });
    assert_all_in_order(&read.await);
}
