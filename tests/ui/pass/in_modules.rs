use changestream::prelude::*;

mod orders {
    pub(crate) mod stored {
        use changestream::prelude::*;

        #[on_change(coll = "orders")]
        pub(in crate::orders) async fn near(_key: DocumentKey) -> Result<(), HandlerError> {
            Ok(())
        }

        #[on_change(coll = "orders")]
        pub(crate) async fn far(_key: DocumentKey) -> Result<(), HandlerError> {
            Ok(())
        }
    }

    pub(crate) fn handlers() -> Vec<changestream::HandlerSpec<()>> {
        changestream::handlers![stored::near]
    }
}

fn main() {
    let _ = orders::handlers();
    let _: Vec<HandlerSpec<()>> = handlers![orders::stored::far, crate::orders::stored::far];
}
