use changestream::prelude::*;

#[on_change(coll = 3, op = [insert, "update"])]
async fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(name = ["a", "b"], to = SINK)]
async fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(retries = "5", timeout = 10)]
async fn third(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(db = "shop" + "s")]
async fn fourth(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
