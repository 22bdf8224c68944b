use changestream::prelude::*;

#[on_change(coll = "")]
async fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = ["orders", "$orders"])]
async fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders\0")]
async fn third(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
