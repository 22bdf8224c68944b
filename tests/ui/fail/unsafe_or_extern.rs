use changestream::prelude::*;

#[on_change(coll = "orders")]
async unsafe fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async extern "C" fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
