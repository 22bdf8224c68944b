use changestream::prelude::*;

#[on_change(coll = [])]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
