//! Prints every change of a shop as a line of JSON.
//!
//! ```text
//! MONGODB_URI=mongodb://localhost:27017 cargo run --example stdout_sink --features stdout | jq .payload
//! ```

use std::env;

use bson::{Bson, Document, doc};
use changestream::{StdoutSink, prelude::*};

#[on_change(to = "lines")]
async fn changed(change: Change<Document>) -> Result<Message, HandlerError> {
    let document = change
        .full_document()
        .cloned()
        .map_or(Bson::Null, Bson::from);
    Message::plain_json(&doc! {
        "collection": change.namespace().collection(),
        "operation": change.operation().as_str(),
        "document": document,
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = mongodb::Client::with_uri_str(env::var("MONGODB_URI")?).await?;
    Runtime::builder(client.database("shop"))
        .name("lines")
        .handlers(handlers![changed])
        .sink("lines", StdoutSink::default())
        .build()?
        .run_until(shutdown_signal())
        .await?;
    Ok(())
}
