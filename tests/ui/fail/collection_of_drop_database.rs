use changestream::prelude::*;

#[on_change(coll = "orders", op = "drop_database")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
