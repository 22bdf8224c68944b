use changestream::prelude::*;

#[on_change(batch(max = 500, within = "200ms"), coll = "orders")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
