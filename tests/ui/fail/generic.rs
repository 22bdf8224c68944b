use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn stored<T>(_order: FullDocument<T>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn stored_too(_order: impl Send) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
