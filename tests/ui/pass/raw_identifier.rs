use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn r#type(r#in: DocumentKey) -> Result<(), HandlerError> {
    drop(r#in);
    Ok(())
}

fn main() {
    let handlers: Vec<HandlerSpec<()>> = handlers![r#type];
    assert_eq!(handlers[0].name(), "type");
}
