//! A tower layer of one's own around every handler: here, one that counts calls by handler.
//!
//! `cargo run --example custom_layer --features testing` needs no server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use changestream::{
    ChangeRequest,
    prelude::*,
    testing::{TestRuntime, change},
};
use tower::{Layer, Service};

#[derive(Clone, Debug, Default)]
struct CountCalls {
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl<S> Layer<S> for CountCalls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        let calls = self.calls.clone();
        Counted { inner, calls }
    }
}

#[derive(Clone, Debug)]
struct Counted<S> {
    inner: S,
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl<S: Service<ChangeRequest>> Service<ChangeRequest> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: ChangeRequest) -> S::Future {
        let mut calls = self.calls.lock().expect("no panic while it was held");
        *calls.entry(request.handler().to_owned()).or_default() += 1;
        self.inner.call(request)
    }
}

#[on_change(coll = "orders", op = "insert")]
async fn order_created(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", op = ["insert", "delete"])]
async fn order_counted(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), changestream::Error> {
    let counter = CountCalls::default();
    let mut runtime = TestRuntime::builder()
        .handlers(handlers![order_created, order_counted])
        .layer(counter.clone())
        .build()?;

    runtime.send(change::insert("orders").id(1)).await;
    runtime.send(change::delete("orders").id(1)).await;

    let calls = counter.calls.lock().expect("no panic while it was held");
    assert_eq!(calls["order_created"], 1);
    assert_eq!(calls["order_counted"], 2);
    println!("{calls:?}");
    Ok(())
}
