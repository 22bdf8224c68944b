use changestream::prelude::*;

#[on_change(coll = ["orders", "orders"], op = ["insert", "update", "insert"], to = ["a", "a"])]
async fn stored(_key: DocumentKey) -> Result<String, HandlerError> {
    Ok(String::new())
}

fn main() {}
