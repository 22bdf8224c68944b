//! Over HTTP, by the HTTP sink.

use std::{collections::BTreeMap, sync::Arc, sync::Mutex};

use axum::{Router, body::Bytes, http::HeaderMap};
use changestream_core::RawChange;
use changestream_sinks::{CloudEvents, HttpSink};
use tokio::net::TcpListener;

use crate::{
    KEY, headers, messages,
    python::{self, Wire},
    seen, send, update,
};

type Requests = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A server that takes everything, and where it is.
async fn receiver() -> (HttpSink, Requests) {
    let requests = Requests::default();
    let taken = Arc::clone(&requests);
    let app = Router::new().fallback(async move |headers: HeaderMap, body: Bytes| {
        taken.lock().expect("not poisoned").push((headers, body));
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (HttpSink::new(url).expect("a URL"), requests)
}

fn wire((headers, body): &(HeaderMap, Bytes)) -> Wire {
    let headers = headers.iter().map(|(name, value)| {
        let text = match name.as_str().starts_with("ce-") {
            true => value.to_str().expect("visible ASCII").to_owned(),
            false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        (name.to_string(), text)
    });
    Wire::new("http", headers.collect(), None, body)
}

/// Sends each kind of message; the requests, and that the Python SDK sees the events that they are.
async fn python_agrees(events: CloudEvents) -> Vec<(HeaderMap, Bytes)> {
    let (sink, requests) = receiver().await;
    let mut expected = Vec::new();
    for (message, data) in messages() {
        let message = message.key(KEY).header("X-Priority", "high");
        let change: RawChange = update().into();
        expected.push(seen(&change, &message, data));
        let sink = events.clone().around(sink.clone());
        send(sink, change, message).await.expect("delivered");
    }
    let requests = requests.lock().expect("not poisoned").clone();
    assert_eq!(requests.len(), expected.len());
    for (headers, _) in &requests {
        assert_eq!(headers["X-Priority"], "high");
    }
    let wires: Vec<_> = requests.iter().map(wire).collect();
    assert_eq!(python::receive(&wires), expected);
    requests
}

#[tokio::test]
async fn python_sees_events_in_structured_mode() {
    for (headers, _) in python_agrees(CloudEvents::structured()).await {
        assert_eq!(headers["Content-Type"], "application/cloudevents+json");
        assert!(!headers.keys().any(|name| name.as_str().starts_with("ce-")));
    }
}

#[tokio::test]
async fn python_sees_events_in_binary_mode() {
    let requests = python_agrees(CloudEvents::http_binary()).await;
    for ((headers, body), (message, _)) in requests.iter().zip(messages()) {
        assert_eq!(body, message.payload());
        assert_eq!(headers["Content-Type"], message.content_type());
    }
}

#[tokio::test]
async fn attributes_are_headers_as_the_binding_has_them() {
    let (sink, requests) = receiver().await;
    let change: RawChange = update().into();
    let id = format!("{}/changed/0", change.event_id());
    let message = changestream_core::Message::new("m", "text/plain").key(KEY);
    let sink = CloudEvents::http_binary().around(sink);
    send(sink, change, message).await.expect("delivered");
    let requests = requests.lock().expect("not poisoned");
    let names = requests[0].0.keys().map(|name| name.as_str());
    let of_the_event = names.filter(|name| name.starts_with("ce-")).map(|name| {
        let value = requests[0].0[name].to_str().expect("visible ASCII");
        (name.to_owned(), value.to_owned())
    });
    let key = "Zo%C3%AB%20%2250%20%25%22%20a/b?c#d%20%F0%9F%98%80";
    assert_eq!(
        of_the_event.collect::<BTreeMap<_, _>>(),
        headers([
            ("ce-specversion", "1.0"),
            ("ce-id", &id),
            (
                "ce-source",
                "/changestream/shop%2520%25C3%25A9%2520%2522%2525%2522"
            ),
            ("ce-type", "test.orders.update"),
            ("ce-subject", key),
            ("ce-partitionkey", key),
            ("ce-time", "2026-01-02T03:04:05.006Z"),
        ])
    );
}
