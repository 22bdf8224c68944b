use changestream_testkit::NatsServer;

use crate::{lifecycle_tests, wire::Wire};

lifecycle_tests!(NatsServer, "--pid=/noSuchFolder/pid" => "noSuchFolder");

/// Says hello, and subscribes to the answers.
async fn connect(server: &NatsServer, options: &str) -> Wire {
    let mut connection = Wire::open(server.addr()).await;
    let info = connection.line().await;
    assert!(info.contains("\"jetstream\":true"), "{info}");
    connection
        .send(format!("CONNECT {{\"verbose\":false{options}}}\r\n"))
        .await;
    connection.send("SUB answers 1\r\n").await;
    connection
}

async fn ask(connection: &mut Wire, subject: &str, body: &str) -> String {
    let length = body.len();
    connection
        .send(format!("PUB {subject} answers {length}\r\n{body}\r\n"))
        .await;
    let head = connection.line().await;
    assert!(head.starts_with("MSG answers 1 "), "{head}");
    connection.line().await
}

#[tokio::test]
async fn keeps_what_it_acknowledged_through_a_crash_on_its_port() {
    let server = NatsServer::start().await.unwrap();
    let addr = server.addr();
    let mut connection = connect(&server, "").await;
    let stream = r#"{"name":"ORDERS","subjects":["orders.>"],"storage":"file"}"#;
    let created = ask(&mut connection, "$JS.API.STREAM.CREATE.ORDERS", stream).await;
    assert!(created.contains("\"did_create\":true"), "{created}");
    for sequence in 1..=100 {
        let acknowledged = ask(&mut connection, "orders.new", "{}").await;
        assert_eq!(
            acknowledged,
            format!("{{\"stream\":\"ORDERS\",\"seq\":{sequence}}}")
        );
    }

    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.addr(), addr);
    let mut connection = connect(&server, "").await;
    let acknowledged = ask(&mut connection, "orders.new", "{}").await;
    assert_eq!(acknowledged, "{\"stream\":\"ORDERS\",\"seq\":101}");
    let info = ask(&mut connection, "$JS.API.STREAM.INFO.ORDERS", "").await;
    assert!(info.contains("\"messages\":101"), "{info}");
}

#[tokio::test]
async fn a_token_is_asked_for_and_in_the_uri() {
    let server = NatsServer::builder().token("secret").start().await.unwrap();
    assert_eq!(server.uri(), format!("nats://secret@{}", server.addr()));
    let mut stranger = connect(&server, "").await;
    let refused = stranger.line().await;
    assert!(refused.contains("Authorization Violation"), "{refused}");
    let mut friend = connect(&server, r#","auth_token":"secret""#).await;
    friend.send("PING\r\n").await;
    assert_eq!(friend.line().await, "PONG");
}
