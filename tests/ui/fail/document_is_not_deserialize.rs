use changestream::prelude::*;

#[derive(Clone)]
struct App;

struct Order;

#[on_change(coll = "orders")]
async fn stored(_order: FullDocument<Order>, _app: State<App>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
