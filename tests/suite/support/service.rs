//! A service in a process of its own that reacts to the shop's orders, and a receiver of what it sends.

use std::{process::Stdio, time::Duration};

use changestream::MongoCheckpoints;
use changestream_testkit::MongoServer;
use mongodb::bson::{Document, doc};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::{Child, Command},
};

use super::{BoxError, TestResult, eventually, within};

/// Runs `service`, which watches `server` and sends status changes to `receiver`: it sends the first one as
/// the contract says, and ends well on SIGTERM.
pub(crate) async fn sends_status_changes(
    mut service: Command,
    server: &MongoServer,
    receiver: &TcpListener,
) -> TestResult {
    let mut service = service.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
    let request = within("a request", async {
        tokio::select! {
            request = receive(receiver) => request,
            () = toggle_status(server) => unreachable!("it toggles for ever"),
            exited = service.wait() => panic!("the service ended early: {exited:?}"),
        }
    });
    let request = request.await?;
    let (head, body) = request.split_once("\r\n\r\n").ok_or("no body")?;
    let head = head.to_lowercase();
    assert!(head.starts_with("post /orders/events http/1.1"), "{head}");
    assert!(head.contains("\r\nx-event-source: fulfillment"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body)?;
    assert!(body["to"].is_string(), "{body}");

    ends_well(service).await
}

/// Runs a service that watches the shop on `server`, and waits until it does.
pub(crate) async fn begun(mut service: Command, server: &MongoServer) -> Result<Child, BoxError> {
    let service = service
        .env("MONGODB_URI", server.uri())
        .stdin(Stdio::null());
    let service = service.kill_on_drop(true).spawn()?;
    let shop = server.client().await?.database("shop");
    let checkpoints = shop.collection::<Document>(MongoCheckpoints::COLLECTION);
    let watching = async || {
        let of_a_stream = doc! { "kind": { "$exists": true } };
        checkpoints.find_one(of_a_stream).await.expect("read")
    };
    eventually("it watches", watching).await;
    Ok(service)
}

/// Asks a service to end, which it does without an error.
pub(crate) async fn ends_well(mut service: Child) -> TestResult {
    let pid = service.id().ok_or("the service has ended")?;
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
    let status = within("the service's end", service.wait()).await?;
    assert!(status.success(), "{status}");
    Ok(())
}

/// Changes an order again and again, as the service may start to watch at any time.
async fn toggle_status(server: &MongoServer) {
    let client = server.client().await.expect("a client");
    let orders = client.database("shop").collection::<Document>("orders");
    let order = doc! { "_id": 1, "status": "created", "total": 9.99 };
    orders.insert_one(order).await.expect("an insert");
    for turn in 0.. {
        let status = format!("status {turn}");
        let update = doc! { "$set": { "status": status } };
        orders
            .update_one(doc! { "_id": 1 }, update)
            .await
            .expect("an update");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One request, answered with 204.
async fn receive(receiver: &TcpListener) -> std::io::Result<String> {
    let (mut connection, _) = receiver.accept().await?;
    let mut request = String::new();
    while !is_complete(&request) {
        let mut bytes = [0; 4096];
        let read = connection.read(&mut bytes).await?;
        request.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    connection
        .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        .await?;
    Ok(request)
}

fn is_complete(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or_default()
}
