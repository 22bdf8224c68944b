use changestream::prelude::*;

#[on_change(backoff = "500us")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
