use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn first(_key: &DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn second(_order: FullDocument<&str>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn third(_order: FullDocument<std::borrow::Cow<'_, str>>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
