use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn stored(_changes: Vec<Change<u32>>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
