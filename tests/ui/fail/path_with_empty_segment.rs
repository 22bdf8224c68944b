use changestream::prelude::*;

#[on_change(field = ["a..b", ".a", "a."])]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
