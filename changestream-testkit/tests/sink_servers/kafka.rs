use std::net::SocketAddr;

use changestream_testkit::{FaultProxy, KafkaServer, TestKafka};

use crate::{lifecycle_tests, wire::Wire};

lifecycle_tests!(KafkaServer, "--noSuchArgument" => "noSuchArgument");

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
