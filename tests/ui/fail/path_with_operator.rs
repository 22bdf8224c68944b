use changestream::prelude::*;

#[on_change(field = ["$status", "items.$.price"])]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
