//! Sends each change of an order's status to a service.
//!
//! ```text
//! MONGODB_URI=mongodb://localhost:27017 FULFILLMENT_URL=http://localhost:8080/orders/events \
//!     cargo run --example quickstart --features http
//! ```

use std::env;

use changestream::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
struct Order {
    status: String,
    total: f64,
}

#[derive(Debug, Serialize)]
struct StatusChanged {
    from: Option<String>,
    to: String,
}

/// Runs for every update of `orders` that changes `status`.
#[on_change(coll = "orders", op = "update", field = "status", to = "fulfillment")]
async fn order_status_changed(
    FullDocument(order): FullDocument<Order>,
    before: Option<PreImage<Order>>,
) -> Result<StatusChanged, HandlerError> {
    Ok(StatusChanged {
        from: before.map(|PreImage(order)| order.status),
        to: order.status,
    })
}

#[on_change(coll = "orders", op = ["insert", "replace"])]
async fn order_stored(change: Change<Order>) -> Result<(), HandlerError> {
    let total = change.full_document().map(|order| order.total);
    println!("stored {:?}, total {total:?}", change.document_key());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = mongodb::Client::with_uri_str(env::var("MONGODB_URI")?).await?;
    Runtime::builder(client.database("shop"))
        .name("fulfillment")
        .handlers(handlers![order_status_changed, order_stored])
        .sink("fulfillment", HttpSink::new(env::var("FULFILLMENT_URL")?)?)
        .build()?
        .run_until(shutdown_signal())
        .await?;
    Ok(())
}
