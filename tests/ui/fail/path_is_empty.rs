use changestream::prelude::*;

#[on_change(field = "", key = "")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
