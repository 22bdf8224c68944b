use std::borrow::Cow;

use changestream::prelude::*;

#[derive(Clone)]
struct App<'a>(&'a str);

struct Topic<'a>(&'a str);

#[on_change(coll = "orders")]
async fn reference(_key: &DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn state(_app: State<App<'_>>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", batch(max = 10, within = "1s"))]
async fn beside_batch(_keys: Vec<DocumentKey>, _topic: Topic<'_>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn no_extractor(_topic: Topic<'_>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn generic<'a>(_note: FullDocument<Cow<'a, str>>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    println!("{:?}", (App("").0, Topic("").0));
}
