use changestream::prelude::*;

#[on_change(coll = "orders" op = "insrt")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
