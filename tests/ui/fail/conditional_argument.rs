use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn stored(#[cfg(unix)] _key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
