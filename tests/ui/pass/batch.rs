//! A handler of batches takes what is of the batch before or after it.

use changestream::{FromBatch, prelude::*};

#[derive(Clone)]
struct App;

struct Size(usize);

impl<S> FromBatch<S> for Size {
    fn from_batch(request: &changestream::ChangeRequest, _state: &S) -> Self {
        Self(request.changes().count())
    }
}

#[on_change(coll = "orders", batch(max = 500, within = "200ms"), timeout = "30s")]
async fn alone(_: Vec<DocumentKey>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch(max = 1, within = "1ms"))]
async fn first(_: std::vec::Vec<Option<PreImage<u32>>>, _: State<App>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch(max = 500, within = "1h",))]
async fn last(_: Attempt, Size(_size): Size, _: Vec<Change<u32>>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(batch(within = "200ms", max = 500))]
async fn between(_: State<App>, _: Vec<RawChange>, _: Attempt) -> std::io::Result<()> {
    Ok(())
}

fn main() {
    let handlers: Vec<HandlerSpec<App>> = handlers![alone, first, last, between];
    assert_eq!(handlers[3].name(), "between");
    assert!(handlers[1].needs().pre_image != changestream::Need::No);
    let _ = async { alone(Vec::new()).await };
}
