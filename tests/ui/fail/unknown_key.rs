use changestream::prelude::*;

#[on_change(cll = "orders")]
async fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(database = "shop")]
async fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(zebra = "x")]
async fn third(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
