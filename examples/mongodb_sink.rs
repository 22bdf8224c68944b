//! Keeps a view of the orders that are open, and a log of what became of each, in collections beside them.
//!
//! ```text
//! MONGODB_URI=mongodb://localhost:27017 cargo run --example mongodb_sink --features mongodb
//! ```

use std::env;

use bson::{DateTime, Document, oid::ObjectId};
use changestream::{MongoSink, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
struct Order {
    customer: String,
    status: String,
    total: f64,
}

#[derive(Debug, Serialize)]
struct OpenOrder {
    customer: String,
    total: f64,
}

#[derive(Debug, Serialize)]
struct Entry {
    order: Option<ObjectId>,
    operation: String,
    status: Option<String>,
    at: DateTime,
}

/// The view: a delete event deletes, and so does the empty message for an order that is not open any more.
#[on_change(coll = "orders", to = "open_orders")]
async fn order_changed(order: Option<FullDocument<Order>>) -> Result<Message, HandlerError> {
    match order {
        Some(FullDocument(order)) if order.status != "closed" => Message::json(&OpenOrder {
            customer: order.customer,
            total: order.total,
        }),
        _ => Ok(Message::new("", "application/json")),
    }
}

/// The log: an entry for each event, however often it comes.
#[on_change(coll = "orders", to = "order_log")]
async fn order_logged(change: Change<Order>) -> Result<Entry, HandlerError> {
    let key = change.document_key();
    Ok(Entry {
        order: key.map(|key| key.get("_id")).transpose()?.flatten(),
        operation: change.operation().to_string(),
        status: change.full_document().map(|order| order.status.clone()),
        at: change
            .wall_time()
            .map_or_else(DateTime::now, DateTime::from_system_time),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = mongodb::Client::with_uri_str(env::var("MONGODB_URI")?).await?;
    let shop = client.database("shop");
    let view = MongoSink::upsert(&shop.collection::<Document>("open_orders")).versioned()?;
    let log = MongoSink::insert(&shop.collection::<Document>("order_log"));
    Runtime::builder(shop)
        .name("open_orders")
        .handlers(handlers![order_changed, order_logged])
        .sink("open_orders", view)
        .sink("order_log", log)
        .build()?
        .run_until(shutdown_signal())
        .await?;
    Ok(())
}
