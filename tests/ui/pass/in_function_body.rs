use changestream::prelude::*;

fn main() {
    type Failure = HandlerError;

    #[derive(Clone)]
    struct S;

    #[on_change(coll = "orders")]
    async fn stored(_state: State<S>, _key: DocumentKey) -> Result<(), Failure> {
        Ok(())
    }

    let _: Vec<HandlerSpec<S>> = handlers![stored];
}
