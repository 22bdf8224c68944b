use changestream::prelude::*;

#[derive(Clone)]
struct App;

#[on_change(coll = "orders")]
async fn stored(_app: State<App>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    let _: Vec<HandlerSpec<()>> = handlers![stored];
}
