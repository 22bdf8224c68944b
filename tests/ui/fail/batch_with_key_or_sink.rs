use changestream::prelude::*;

#[on_change(key = "customer.id", to = "out", batch(max = 500, within = "200ms"))]
async fn stored(_: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch(max = 500, within = "200ms"))]
async fn messages(changes: Vec<RawChange>) -> Result<Vec<String>, HandlerError> {
    Ok(changes.iter().map(|change| change.event_id().to_string()).collect())
}

#[on_change(batch(max = 500, within = "200ms"))]
async fn error(_: Vec<RawChange>) -> Result<(), String> {
    Ok(())
}

fn main() {}
