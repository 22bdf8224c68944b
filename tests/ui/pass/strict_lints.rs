//! Under the strictest lints.

#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    missing_copy_implementations,
    unreachable_pub,
    unused_qualifications,
    unused_results,
    single_use_lifetimes,
    trivial_casts,
    clippy::all,
    clippy::pedantic
)]
#![forbid(unsafe_code)]

use changestream::prelude::*;

/// The state.
#[derive(Clone, Copy, Debug)]
pub struct App;

/// Public.
///
/// # Errors
///
/// None.
#[on_change(coll = "orders", to = "fulfillment")]
pub async fn public(_app: State<App>, _again: State<App>) -> Result<String, HandlerError> {
    Ok(String::new())
}

/// Private modules.
mod inner {
    use changestream::prelude::*;

    use serde::Deserialize;

    #[derive(Clone, Copy, Debug)]
    struct Private;

    #[derive(Clone, Copy, Debug, Deserialize)]
    struct Order<'a> {
        status: &'a str,
    }

    #[on_change(coll = "orders")]
    async fn borrowing(
        FullDocument(order): FullDocument<Order<'_>>,
        _state: State<Private>,
    ) -> Result<(), HandlerError> {
        println!("{}", order.status);
        Ok(())
    }

    #[on_change(coll = "orders")]
    pub(super) async fn near() -> Result<(), HandlerError> {
        Ok(())
    }

    #[on_change(coll = "orders")]
    async fn private(_state: State<Private>) -> Result<(), HandlerError> {
        Ok(())
    }

    pub(super) fn handlers() -> usize {
        let handlers: Vec<HandlerSpec<Private>> = handlers![private, borrowing];
        handlers.len()
    }
}

#[on_change(coll = "orders")]
#[deprecated]
async fn deprecated() -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
#[allow(unused_parens)]
async fn allowed(_app: (State<App>)) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
#[expect(unused_parens)]
async fn expected(_app: (State<App>)) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
#[allow(non_snake_case, clippy::needless_pass_by_value)]
async fn camelCase() -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    let _: Vec<HandlerSpec<App>> = handlers![
        public,
        inner::near,
        camelCase,
        deprecated,
        allowed,
        expected
    ];
    let _ = inner::handlers();
}
