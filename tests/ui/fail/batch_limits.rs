use changestream::prelude::*;

#[on_change(batch(max = 0, within = "0s"))]
async fn nothing(_: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch(max = 500))]
async fn no_time(_: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch())]
async fn neither(_: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch(size = 500, witin = "200ms"))]
async fn unknown(_: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch(max = "500", within = 200, max = 5))]
async fn wrong(_: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch = 500, coll = "orders")]
async fn no_parentheses(_: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch(max = 5, within = "1s"), batch(max = 5, within = "1s"))]
async fn twice(_: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
