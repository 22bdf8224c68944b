//! Sends every change of `orders` to the topic `shop.orders`, each order's in one partition.
//!
//! ```text
//! MONGODB_URI=mongodb://localhost:27017 KAFKA_BROKERS=localhost:9092 cargo run --example kafka_sink --features kafka
//! ```

use std::env;

use changestream::{KafkaSink, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
struct Order {
    status: String,
    total: f64,
}

#[derive(Debug, Serialize)]
struct OrderChanged {
    operation: &'static str,
    status: Option<String>,
    total: Option<f64>,
}

#[on_change(coll = "orders", op = ["insert", "update", "replace"], to = "kafka")]
async fn order_stored(
    FullDocument(order): FullDocument<Order>,
) -> Result<OrderChanged, HandlerError> {
    Ok(OrderChanged {
        operation: "stored",
        status: Some(order.status),
        total: Some(order.total),
    })
}

#[on_change(coll = "orders", op = "delete", to = "kafka")]
async fn order_deleted(_key: DocumentKey) -> Result<OrderChanged, HandlerError> {
    Ok(OrderChanged {
        operation: "deleted",
        status: None,
        total: None,
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = mongodb::Client::with_uri_str(env::var("MONGODB_URI")?).await?;
    let kafka = KafkaSink::new(env::var("KAFKA_BROKERS")?, "shop.{collection}")?
        .option("compression.type", "lz4")?;
    Runtime::builder(client.database("shop"))
        .name("order-events")
        .handlers(handlers![order_stored, order_deleted])
        .sink("kafka", kafka)
        .build()?
        .run_until(shutdown_signal())
        .await?;
    Ok(())
}
