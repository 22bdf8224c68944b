use changestream::prelude::*;

#[on_change(coll)]
async fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll, op = "insert")]
async fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = , op = "insert")]
async fn third(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll("orders"))]
async fn fourth(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
