use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn stored(_key: DocumentKey) -> Result<(), String> {
    Ok(())
}

fn main() {}
