use changestream::prelude::*;
use std::time::Duration;

async fn stored(_change: RawChange) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    let _: HandlerSpec<()> = HandlerSpec::batch("stored", 500, Duration::from_secs(1), stored);
}
