use changestream::prelude::*;

#[on_change(coll = "orders", op = "insert", coll = "carts")]
async fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(retries = 1, retries = 2)]
async fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
