//! Counts orders by customer, each exactly once, whatever crashes: the counter and the event's id are
//! committed in one transaction.
//!
//! ```text
//! MONGODB_URI=mongodb://localhost:27017 cargo run --example exactly_once
//! ```

use std::env;

use bson::{Document, doc};
use changestream::prelude::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Order {
    customer: String,
    total: f64,
}

/// `$inc` bears no repetition: without the transaction, an event that comes again would count twice.
#[on_change(coll = "orders", op = "insert")]
async fn order_placed(
    FullDocument(order): FullDocument<Order>,
    mut transaction: Transaction,
) -> Result<(), HandlerError> {
    let totals = transaction.database().collection::<Document>("totals");
    let customer = doc! { "_id": &order.customer };
    let update = doc! { "$inc": { "orders": 1, "total": order.total } };
    totals
        .update_one(customer, update)
        .upsert(true)
        .session(transaction.session())
        .await?;
    println!("counted an order of {}", order.customer);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = mongodb::Client::with_uri_str(env::var("MONGODB_URI")?).await?;
    Runtime::builder(client.database("shop"))
        .name("totals")
        .handlers(handlers![order_placed])
        .build()?
        .run_until(shutdown_signal())
        .await?;
    Ok(())
}
