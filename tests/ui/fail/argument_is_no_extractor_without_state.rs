use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn stored(_key: DocumentKey, _order: String) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    let _: Vec<HandlerSpec<()>> = handlers![stored];
}
