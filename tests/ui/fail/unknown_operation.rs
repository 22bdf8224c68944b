use changestream::prelude::*;

#[on_change(op = "updated")]
async fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(op = ["insert", "dropDatabase"])]
async fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(op = "create")]
async fn third(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
