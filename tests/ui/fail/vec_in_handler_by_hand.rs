use changestream::prelude::*;

async fn stored(_changes: Vec<RawChange>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    let _: HandlerSpec<()> = HandlerSpec::new("stored", stored);
}
