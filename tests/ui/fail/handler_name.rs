use changestream::prelude::*;

#[on_change(name = "")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
