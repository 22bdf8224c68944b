use changestream::prelude::*;

#[on_change(coll = "orders")]
#[cfg(any())]
async fn absent(_key: Missing) -> Result<(), HandlerError> {
    Ok(())
}

#[cfg(all())]
#[on_change(coll = "orders")]
#[cfg_attr(all(), cfg(all()))]
async fn present(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[cfg(any())]
#[on_change(coll = "orders")]
async fn present(_key: Missing) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    let _: Vec<HandlerSpec<()>> = handlers![present];
}
