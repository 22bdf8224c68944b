use changestream::prelude::*;

#[on_change(coll = "orders")]
#[on_change(coll = "carts")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
