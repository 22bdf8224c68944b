//! Keeps a cache of products right: what a change made stale is removed, and the product itself is written.
//!
//! ```text
//! MONGODB_URI=mongodb://localhost:27017 REDIS_URL=redis://localhost:6379/0 \
//!     cargo run --example redis_sink --features redis
//! ```

use std::{env, time::Duration};

use changestream::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Product {
    name: String,
    category: String,
    price: f64,
}

/// The product as the cache holds it; a delete has none, and removes it.
#[on_change(coll = "products", to = "cache")]
async fn product_changed(product: Option<FullDocument<Product>>) -> Result<Message, HandlerError> {
    Message::plain_json(&product.map(|FullDocument(product)| product))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = mongodb::Client::with_uri_str(env::var("MONGODB_URI")?).await?;
    let cache = RedisSink::new(env::var("REDIS_URL")?)?
        .unlink_matching("products:search:*")?
        .unlink(["products:featured"])?
        .set("product:{document_key._id}")?
        .ttl(Duration::from_secs(3600))?;
    Runtime::builder(client.database("shop"))
        .name("cache")
        .handlers(handlers![product_changed])
        .sink("cache", cache)
        .build()?
        .run_until(shutdown_signal())
        .await?;
    Ok(())
}
