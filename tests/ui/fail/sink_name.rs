use changestream::prelude::*;

#[on_change(to = ["fulfillment", ""])]
async fn stored(_key: DocumentKey) -> Result<String, HandlerError> {
    Ok(String::new())
}

fn main() {}
