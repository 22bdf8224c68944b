use changestream_testkit::{FaultProxy, RedisServer};

use crate::{lifecycle_tests, wire::Wire};

lifecycle_tests!(RedisServer, "--noSuchArgument" => "noSuchArgument");

async fn ask(connection: &mut Wire, command: &str) -> String {
    connection.send(format!("{command}\r\n")).await;
    connection.line().await
}

#[tokio::test]
async fn keeps_what_it_acknowledged_through_a_crash_on_its_port() {
    let server = RedisServer::start().await.unwrap();
    let addr = server.addr();
    let mut connection = Wire::open(addr).await;
    for count in 1..=100 {
        let acknowledged = ask(&mut connection, "INCR count").await;
        assert_eq!(acknowledged, format!(":{count}"));
    }

    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.addr(), addr);
    let mut connection = Wire::open(addr).await;
    assert_eq!(ask(&mut connection, "INCR count").await, ":101");

    server.restart().await.unwrap();
    let mut connection = Wire::open(addr).await;
    assert_eq!(ask(&mut connection, "INCR count").await, ":102");
}

#[tokio::test]
async fn a_password_is_asked_for_and_in_the_uri() {
    let server = RedisServer::builder().password("secret").start();
    let server = server.await.unwrap();
    let addr = server.addr();
    assert_eq!(server.uri(), format!("redis://:secret@{addr}/"));
    let mut connection = Wire::open(addr).await;
    let refused = ask(&mut connection, "PING").await;
    assert!(refused.starts_with("-NOAUTH"), "{refused}");
    assert_eq!(ask(&mut connection, "AUTH secret").await, "+OK");
    assert_eq!(ask(&mut connection, "PING").await, "+PONG");
}

#[tokio::test]
async fn further_arguments_go_before_its_own() {
    let builder = RedisServer::builder().arg("--appendfsync").arg("no");
    let server = builder.start().await.unwrap();
    let mut connection = Wire::open(server.addr()).await;
    connection.send("CONFIG GET appendfsync\r\n").await;
    let mut answer = Vec::new();
    for _ in 0..5 {
        answer.push(connection.line().await);
    }
    assert_eq!(answer, ["*2", "$11", "appendfsync", "$2", "no"]);
}

#[tokio::test]
async fn answers_through_a_proxy() {
    let server = RedisServer::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let through = server.uri_through(proxy.addr());
    assert_eq!(through, format!("redis://{}/", proxy.addr()));
    let mut connection = Wire::open(proxy.addr()).await;
    assert_eq!(ask(&mut connection, "PING").await, "+PONG");
}
