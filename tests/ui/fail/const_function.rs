use changestream::prelude::*;

#[on_change(coll = "orders")]
const fn stored() -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
