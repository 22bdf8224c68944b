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

#[cfg(any())]
#[on_change(coll = "orders")]
async fn left_out(_: FullDocument<Missing<'_>>) -> Result<(), HandlerError> {
    Ok(())
}

#[deprecated]
#[allow(deprecated)]
#[on_change(coll = "orders")]
async fn r#move(_: Change<model::Order<'_>>) -> Result<(), HandlerError> {
    Ok(())
}

macro_rules! handler {
    ($name:ident, $argument:ty) => {
        #[on_change(coll = "orders")]
        async fn $name(_: $argument) -> Result<(), HandlerError> {
            Ok(())
        }
    };
}

handler!(in_macro, FullDocument<model::Order<'_>>);

fn main() {
    #[on_change(coll = "orders")]
    async fn in_function(_: FullDocument<Note<'_>>) -> Result<(), HandlerError> {
        Ok(())
    }

    #[allow(deprecated)]
    let _: Vec<HandlerSpec<()>> = handlers![status, r#move, in_macro, in_function];
}
