use changestream::prelude::*;

struct Shop;

impl Shop {
    #[on_change(coll = "orders")]
    async fn stored(&self, _key: DocumentKey) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn main() {}
