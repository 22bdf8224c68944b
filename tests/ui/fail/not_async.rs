use changestream::prelude::*;

#[on_change(coll = "orders")]
fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
