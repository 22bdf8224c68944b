use changestream::prelude::*;

struct App;

#[on_change(coll = "orders")]
async fn stored(_app: State<App>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
