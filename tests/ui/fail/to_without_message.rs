use changestream::prelude::*;

#[on_change(to = "fulfillment")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
