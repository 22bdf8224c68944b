use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn stored(_one: State<u8>, _two: State<u16>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
