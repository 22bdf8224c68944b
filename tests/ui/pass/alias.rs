use changestream::prelude::*;

type Outcome<T = ()> = Result<T, HandlerError>;
type Done = Outcome;
type App = State<u8>;

macro_rules! done {
    () => {
        Outcome
    };
}

#[on_change(coll = "orders")]
async fn first(_app: App) -> Outcome {
    Ok(())
}

#[on_change(coll = "orders", to = "fulfillment")]
async fn second(_app: App) -> Outcome<Vec<Message>> {
    Ok(Vec::new())
}

#[on_change(coll = "orders")]
#[allow(unused_parens)]
async fn third(_app: (App)) -> std::result::Result<(), std::convert::Infallible> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn fourth() -> Done {
    Ok(())
}

#[on_change(coll = "orders")]
async fn fifth() -> done!() {
    Ok(())
}

fn main() {
    let _: Vec<HandlerSpec<u8>> = handlers![first, second, third, fourth, fifth];
}
