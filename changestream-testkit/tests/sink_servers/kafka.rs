use std::net::SocketAddr;

use changestream_testkit::{FaultProxy, KafkaServer, TestKafka};

use crate::{lifecycle_tests, wire::Wire};

lifecycle_tests!(KafkaServer, "--noSuchArgument" => "noSuchArgument");

const PRODUCE: i16 = 0;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;

/// Sends a request; gives the answer without its length and correlation id.
async fn ask(addr: SocketAddr, key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    string(&mut request, "test");
    request.extend(body);

    let mut connection = Wire::open(addr).await;
    connection.send((request.len() as i32).to_be_bytes()).await;
    connection.send(request).await;
    let length = connection.read_exact(4).await;
    let length = i32::from_be_bytes(length.try_into().unwrap());
    let mut answer = connection.read_exact(length as usize).await;
    assert_eq!(answer[..4], 7_i32.to_be_bytes());
    answer.split_off(4)
}

fn string(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as i16).to_be_bytes());
    into.extend(text.as_bytes());
}

async fn create_topic(addr: SocketAddr, name: &str) {
    let mut body = Vec::new();
    body.extend(1_i32.to_be_bytes());
    string(&mut body, name);
    body.extend(1_i32.to_be_bytes());
    body.extend(1_i16.to_be_bytes());
    // No assignments, no settings; a deadline; for real.
    body.extend([0; 8]);
    body.extend(10_000_i32.to_be_bytes());
    body.push(0);
    let answer = ask(addr, CREATE_TOPICS, 2, &body).await;
    let mut expected = Vec::new();
    // Not throttled, one topic, no error and no message.
    expected.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    string(&mut expected, name);
    expected.extend([0, 0, 0xff, 0xff]);
    assert_eq!(answer, expected);
}

/// What a request says of one partition of one topic.
fn about_partition(topic: &str, what: &[u8]) -> Vec<u8> {
    let mut about = Vec::new();
    about.extend(1_i32.to_be_bytes());
    string(&mut about, topic);
    about.extend(1_i32.to_be_bytes());
    about.extend(0_i32.to_be_bytes());
    about.extend(what);
    about
}

/// Writes one record, and waits until the broker has acknowledged it; gives its offset.
async fn produce(addr: SocketAddr, topic: &str, value: &[u8]) -> i64 {
    let mut record = Vec::new();
    // No attributes, no differences of time and offset, no key, the value, no headers; lengths doubled, as zigzag does.
    record.extend([0, 0, 0, 1, value.len() as u8 * 2]);
    record.extend(value);
    record.push(0);

    let mut summed = Vec::new();
    // No attributes, the last offset, two times, no producer, its epoch and sequence, one record.
    summed.extend([0; 2 + 4 + 8 + 8]);
    summed.extend([0xff; 8 + 2 + 4]);
    summed.extend(1_i32.to_be_bytes());
    summed.push(record.len() as u8 * 2);
    summed.extend(record);

    let mut rest = Vec::new();
    rest.extend(0_i32.to_be_bytes());
    rest.push(2);
    rest.extend(crc32c(&summed).to_be_bytes());
    rest.extend(summed);

    let mut batch = Vec::new();
    batch.extend((8 + 4 + rest.len() as i32).to_be_bytes());
    batch.extend(0_i64.to_be_bytes());
    batch.extend((rest.len() as i32).to_be_bytes());
    batch.extend(rest);

    let mut body = Vec::new();
    // No transaction, acknowledged by all, a deadline.
    body.extend((-1_i16).to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend(10_000_i32.to_be_bytes());
    body.extend(about_partition(topic, &batch));
    let answer = ask(addr, PRODUCE, 3, &body).await;
    let told = about_partition(topic, &[0, 0]);
    assert_eq!(answer[..told.len()], told, "an error");
    i64::from_be_bytes(answer[told.len()..][..8].try_into().unwrap())
}

/// The offset of the next record.
async fn next_offset(addr: SocketAddr, topic: &str) -> i64 {
    let mut body = Vec::new();
    body.extend((-1_i32).to_be_bytes());
    body.extend(about_partition(topic, &(-1_i64).to_be_bytes()));
    let answer = ask(addr, LIST_OFFSETS, 1, &body).await;
    let offset = answer.last_chunk().copied().unwrap();
    i64::from_be_bytes(offset)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), shift);
    !bytes.iter().fold(u32::MAX, byte)
}

/// The metadata of all topics.
async fn metadata(addr: SocketAddr) -> Vec<u8> {
    ask(addr, METADATA, 2, &(-1_i32).to_be_bytes()).await
}

fn holds(answer: &[u8], part: &[u8]) -> bool {
    answer.windows(part.len()).any(|window| window == part)
}

/// The one broker in an answer of version 2.
fn advertised(metadata: &[u8]) -> String {
    let length = usize::from(u16::from_be_bytes([metadata[8], metadata[9]]));
    let (host, rest) = metadata[10..].split_at(length);
    let port = i32::from_be_bytes(rest[..4].try_into().unwrap());
    format!("{}:{port}", String::from_utf8_lossy(host))
}

#[tokio::test]
async fn answers_on_its_port_after_a_crash_and_is_empty() {
    let server = KafkaServer::start().await.unwrap();
    let addr = server.addr();
    assert_eq!(advertised(&metadata(addr).await), server.bootstrap());
    create_topic(addr, "orders").await;
    assert!(holds(&metadata(addr).await, b"orders"));

    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.addr(), addr);
    let metadata = metadata(addr).await;
    assert_eq!(advertised(&metadata), server.bootstrap());
    assert!(!holds(&metadata, b"orders"));
}

#[tokio::test]
async fn a_durable_one_keeps_what_it_acknowledged_through_a_crash() {
    let server = KafkaServer::builder().durable().start().await.unwrap();
    let addr = server.addr();
    create_topic(addr, "orders").await;
    for offset in 0..100 {
        assert_eq!(produce(addr, "orders", b"new").await, offset);
    }

    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.addr(), addr);
    assert!(holds(&metadata(addr).await, b"orders"));
    assert_eq!(next_offset(addr, "orders").await, 100);
    assert_eq!(produce(addr, "orders", b"new").await, 100);
}

#[tokio::test]
async fn sends_clients_to_a_proxy_in_front_of_it() {
    let mut server = KafkaServer::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    server.advertise(proxy.addr()).await.unwrap();
    let through = proxy.addr().to_string();
    assert_eq!(advertised(&metadata(server.addr()).await), through);
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(advertised(&metadata(proxy.addr()).await), through);
}

#[tokio::test]
async fn topic_names_are_unique() {
    let kafka = TestKafka::from_env_or_start().await.unwrap();
    assert!(!kafka.bootstrap().is_empty());
    let names = [(); 2].map(|()| kafka.unique_topic("orders"));
    assert_ne!(names[0], names[1]);
}
