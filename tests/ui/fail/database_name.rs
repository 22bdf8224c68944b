use changestream::prelude::*;

#[on_change(db = "")]
async fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(db = "shop.orders")]
async fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(db = "my shop")]
async fn third(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
