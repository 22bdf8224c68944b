use changestream::prelude::*;

#[derive(Clone)]
struct App;

#[on_change(coll = "orders")]
async fn stored(_key: DocumentKey, _order: String, _app: State<App>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
