use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn stored(
    _1: Attempt,
    _2: Attempt,
    _3: Attempt,
    _4: Attempt,
    _5: Attempt,
    _6: Attempt,
    _7: Attempt,
    _8: Attempt,
    _9: Attempt,
) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
