use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn argument(_key: DocumentKey, _app: State<u8>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn output(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn result(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn spec(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    let _: Vec<HandlerSpec<u8>> = handlers![argument, output, result, spec];
}
