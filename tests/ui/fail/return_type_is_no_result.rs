use changestream::prelude::*;

#[on_change(coll = "orders")]
async fn unit(_key: DocumentKey) -> () {}

#[on_change(coll = "orders")]
async fn number(_key: DocumentKey) -> u8 {
    0
}

#[on_change(coll = "orders")]
async fn option(_key: DocumentKey) -> Option<String> {
    None
}

fn main() {}
