use changestream::prelude::*;

#[derive(Clone)]
struct App;

struct Order;

struct Note<'a>(&'a str);

#[on_change(coll = "orders")]
async fn stored(_order: FullDocument<Order>, _app: State<App>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn borrowing(FullDocument(note): FullDocument<Note<'_>>) -> Result<(), HandlerError> {
    println!("{}", note.0);
    Ok(())
}

fn main() {}
