use changestream::prelude::*;

#[derive(Clone)]
struct App;

#[on_change(coll = "orders", batch(max = 500, within = "200ms"))]
async fn stored(
    _changes: Vec<RawChange>,
    _key: DocumentKey,
    _app: State<App>,
) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", batch(max = 500, within = "200ms"))]
async fn item(_changes: Vec<u32>, _app: State<App>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
