use changestream::prelude::*;

#[on_change(cll = "orders", op = ["insert", "updat"], field = "a..b", timeout = "0s", to = 5)]
fn stored(_key: &DocumentKey) -> bool {
    true
}

fn main() {
    let _ = stored;
    let _: Vec<HandlerSpec<()>> = handlers![stored];
}
