use changestream::prelude::*;

macro_rules! stored {
    ($name:ident, $coll:literal, $fields:expr, $retries:expr, $key:ty) => {
        #[on_change(coll = $coll, field = $fields, retries = $retries)]
        async fn $name(_key: $key, _state: State<u8>) -> Result<(), HandlerError> {
            Ok(())
        }
    };
}

stored!(order_stored, "orders", ["status", "total"], 5, DocumentKey);
stored!(cart_stored, "carts", "status", 5, Option<DocumentKey>);

fn main() {
    let _: Vec<HandlerSpec<u8>> = handlers![order_stored, cart_stored];
}
