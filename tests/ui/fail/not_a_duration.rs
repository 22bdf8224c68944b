use changestream::prelude::*;

#[on_change(timeout = "10", backoff = "soon")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
