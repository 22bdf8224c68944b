//! Publishes every change of `orders` to a stream of NATS, which has to take subjects under `shop.`:
//! `nats stream add SHOP --subjects 'shop.>' --defaults`.
//!
//! ```text
//! MONGODB_URI=mongodb://localhost:27017 NATS_URL=nats://localhost:4222 cargo run --example nats_sink --features nats
//! ```

use std::env;

use changestream::{NatsSink, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
struct Order {
    status: String,
    total: f64,
}

#[derive(Debug, Serialize)]
struct OrderChanged {
    status: String,
    total: f64,
}

/// Of a deleted order there is nothing to tell but that, in the subject `shop.orders.delete`.
#[on_change(coll = "orders", to = "events")]
async fn order_changed(order: Option<FullDocument<Order>>) -> Result<Message, HandlerError> {
    let order = order.map(|FullDocument(order)| OrderChanged {
        status: order.status,
        total: order.total,
    });
    Message::json(&order)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = mongodb::Client::with_uri_str(env::var("MONGODB_URI")?).await?;
    let events = NatsSink::jetstream(env::var("NATS_URL")?, "shop.{collection}.{operation}")?;
    Runtime::builder(client.database("shop"))
        .name("order-events")
        .handlers(handlers![order_changed])
        .sink("events", events)
        .build()?
        .run_until(shutdown_signal())
        .await?;
    Ok(())
}
