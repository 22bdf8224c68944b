use changestream::prelude::*;

#[on_change(coll = "orders", when = "full_document.total > 1000")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
