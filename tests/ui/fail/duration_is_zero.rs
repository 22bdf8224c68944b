use changestream::prelude::*;

#[on_change(timeout = "0s")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
