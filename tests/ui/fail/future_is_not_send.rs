use changestream::prelude::*;

use std::rc::Rc;

#[on_change(coll = "orders")]
async fn stored(_key: DocumentKey) -> Result<(), HandlerError> {
    let shared = Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
    Ok(())
}

#[on_change(coll = "orders")]
async fn borrowing(note: FullDocument<&str>) -> Result<(), HandlerError> {
    let shared = Rc::new(note);
    std::future::ready(()).await;
    drop(shared);
    Ok(())
}

fn main() {}
