//! Three ways to test a handler without a server: call it, look at what it sends to the server, run it
//! within its stack.
//!
//! `cargo run --example unit_test_a_handler --features testing` runs what a test module would hold.

use changestream::{
    prelude::*,
    testing::{RecordingSink, TestRuntime, change},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    status: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Shipped {
    status: String,
}

#[on_change(coll = "orders", op = "update", field = "status", to = "notification")]
async fn order_shipped(
    FullDocument(order): FullDocument<Order>,
) -> Result<Option<Shipped>, HandlerError> {
    let shipped = order.status == "shipped";
    Ok(shipped.then_some(Shipped {
        status: order.status,
    }))
}

/// A handler stays an ordinary function.
async fn call_it() {
    let order = Order {
        status: "created".into(),
    };
    let result = order_shipped(FullDocument(order)).await;
    assert_eq!(result.expect("no error"), None);
}

/// The filter that goes to the server can be printed and compared.
fn look_at_its_pipeline() {
    let pipeline = order_shipped::spec::<()>().pipeline().expect("a good path");
    assert_eq!(
        pipeline[0],
        bson::doc! { "$changeStream": { "fullDocument": "updateLookup" } }
    );
    for stage in &pipeline {
        println!("{stage}");
    }
}

/// Filters, retries, deliveries and dead letters are those of a real runtime.
async fn run_it_within_its_stack() -> Result<(), changestream::Error> {
    // Waits, as between retries, are over at once.
    tokio::time::pause();
    let sink = RecordingSink::default();
    let mut runtime = TestRuntime::builder()
        .handlers(handlers![order_shipped])
        .sink("notification", sink.clone())
        .build()?;

    let order = Order {
        status: "shipped".into(),
    };
    let other_field = change::update("orders")
        .set("note", "x")
        .full_document(&order);
    assert!(runtime.send(other_field).await.handled().is_empty());

    sink.fail_next(2);
    let shipped = change::update("orders")
        .set("status", "shipped")
        .full_document(&order);
    let report = runtime.send(shipped).await;
    assert_eq!(report.handled(), ["order_shipped"]);
    let deliveries = sink.deliveries();
    assert_eq!(
        &deliveries[0].message().payload()[..],
        br#"{"status":"shipped"}"#
    );
    assert_eq!(deliveries[0].attempt(), Attempt(3));

    let undecodable = bson::doc! { "status": 7 };
    let poison = change::update("orders")
        .set("status", 7)
        .full_document(&undecodable);
    assert_eq!(
        runtime.send(poison).await.dead_lettered(),
        ["order_shipped"]
    );
    assert_eq!(runtime.dead_letters()[0].kind(), "rejection");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), changestream::Error> {
    call_it().await;
    look_at_its_pipeline();
    run_it_within_its_stack().await
}
