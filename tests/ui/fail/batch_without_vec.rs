use changestream::prelude::*;

struct App;

#[on_change(coll = "orders", batch(max = 500, within = "200ms"))]
async fn one(_change: Change<u32>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", batch(max = 500, within = "200ms"))]
async fn none(_app: State<App>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", batch(max = 500, within = "200ms"))]
async fn two(_keys: Vec<DocumentKey>, _ids: Vec<EventId>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", batch(max = 500, within = "200ms"))]
async fn four(_: Vec<DocumentKey>, _: Attempt, _: Attempt, _: Attempt) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
