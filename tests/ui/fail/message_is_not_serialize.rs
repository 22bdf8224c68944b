use changestream::prelude::*;

struct Shipped;

#[on_change(coll = "orders", to = "fulfillment")]
async fn stored(_key: DocumentKey) -> Result<Shipped, HandlerError> {
    Ok(Shipped)
}

fn main() {}
