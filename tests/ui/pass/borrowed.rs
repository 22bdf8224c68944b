#![deny(warnings, clippy::all, elided_lifetimes_in_paths, single_use_lifetimes)]

//! Arguments that borrow from the event: fields, references in tuples, types of another module.

use std::borrow::Cow;

use changestream::prelude::*;
use serde::Deserialize;

mod model {
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    pub(super) struct Order<'a> {
        pub(super) status: &'a str,
    }
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Note<'a>(#[serde(borrow)] Cow<'a, str>);

#[on_change(coll = "orders", to = "audit")]
async fn status(
    FullDocument(order): FullDocument<model::Order<'_>>,
    before: Option<PreImage<model::Order<'_>>>,
    pair: Option<FullDocument<(&str, Note<'_>)>>,
) -> Result<String, HandlerError> {
    tokio::task::yield_now().await;
    println!("{before:?} {pair:?}");
    Ok(order.status.to_owned())
}

fn main() {
    let _: Vec<HandlerSpec<()>> = handlers![status];
}
