use changestream::prelude::*;

#[on_change(op = ["insert", "delete"], field = "status")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
