use changestream::prelude::*;

#[on_change(coll = "orders")]
struct Stored;

struct Handlers;

#[on_change(coll = "orders")]
impl Handlers {}

fn main() {
    let _ = (Stored, Handlers);
}
