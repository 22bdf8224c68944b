use changestream::prelude::*;

type Shipped = Option<String>;

#[on_change(coll = "orders")]
async fn stored(_key: DocumentKey) -> Shipped {
    None
}

fn main() {}
