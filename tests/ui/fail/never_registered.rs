#![deny(dead_code)]

use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn borrowing(_note: FullDocument<&str>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
