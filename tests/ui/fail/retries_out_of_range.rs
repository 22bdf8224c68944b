use changestream::prelude::*;

#[on_change(retries = 4294967296)]
async fn first(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(retries = -1)]
async fn second(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(retries = 5u64)]
async fn third(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
