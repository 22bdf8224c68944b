use changestream::prelude::*;

#[on_change(field = "a\0b")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
