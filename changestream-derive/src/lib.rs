//! The attribute of [`changestream`](https://docs.rs/changestream), which re-exports it: depend on that.

use proc_macro::TokenStream;

mod call;
mod checks;
mod expand;
mod model;
mod on_change;
mod parse;
mod signature;
#[cfg(test)]
mod stored_annotations;
mod suggest;
mod ty;
mod validate;

/// Makes an async function a handler of changes: what `handlers!` takes.
///
/// The function itself stays as it is and can be called, by a unit test for one. Beside it comes a type of
/// the same name with a function `spec()`, which gives the `HandlerSpec` that could have been written by hand.
///
/// ```ignore
/// /// Runs for every update of `orders` that changes `status`.
/// #[on_change(coll = "orders", op = "update", field = "status", to = "fulfillment")]
/// async fn order_status_changed(
///     FullDocument(order): FullDocument<Order>,
///     before: Option<PreImage<Order>>,
///     State(_app): State<App>,
/// ) -> Result<StatusChanged, HandlerError> {
///     Ok(StatusChanged { from: before.map(|PreImage(o)| o.status), to: order.status })
/// }
/// ```
///
/// # The annotation
///
/// All keys may be left out. Where the table says *list*, one string will do, or several: `["a", "b"]`.
///
/// | key | value | meaning | default |
/// | --- | --- | --- | --- |
/// | `coll` | list | collections to watch | the whole database |
/// | `db` | string | database to watch | the runtime's |
/// | `op` | list | operations: `insert`, `update`, `replace`, `delete`, `drop`, `rename`, `drop_database`, `invalidate`, `snapshot`; `insert` takes the documents of a snapshot, too | `insert`, `update`, `replace`, `delete`; with `field`: `update`, `replace` |
/// | `field` | list | dotted paths, any one of which an update or replace must have changed; other operations are not restricted | any |
/// | `to` | list | names of the sinks that receive what the handler returns | none |
/// | `name` | string | the handler's identity in dead letters and metrics: keep it when the function is renamed | the function's name |
/// | `key` | string | dotted path of the value that orders events: those with the same value are handled one after the other | the document key |
/// | `timeout` | duration | how long one attempt may take | the runtime's |
/// | `retries` | integer | how often a failed attempt is repeated | the runtime's |
/// | `backoff` | duration | the wait before the first repetition, from which the others grow | the runtime's |
/// | `batch` | `batch(max = 500, within = "200ms")` | the handler takes its events in a `Vec`: as many as `max`, and what there is so long after the first; without `to` and `key` | one at a time |
///
/// A duration is a string of numbers with units, down to the millisecond: `"10s"`, `"200ms"`, `"1m 30s"`.
///
/// # The function
///
/// An `async fn` that is not generic, takes up to eight extractors (types that implement `FromChange`, or, with the lifetime
/// `'_`, `BorrowFromChange`), and returns `Result<O, E>`, or an alias of it, where `O: IntoMessages` and `E: Into<HandlerError>`.
///
/// With `batch` it takes a `Vec<C>`, where `C` is an extractor, written as such, and beside it, before or after, at
/// most two arguments that are of the whole batch (`FromBatch`: `State<_>`, `Attempt`), and returns `Result<(), E>`.
///
/// Attributes stay on the function. `#[cfg(..)]` counts for the type beside it too.
///
/// # Errors
///
/// Every mistake in the annotation and the signature is an error of the compiler on the token that is wrong, all of
/// them at once. An argument that is no extractor is one at its type when it borrows or another argument is `State<_>`, and at
/// `handlers!` otherwise, since only then the type of the state is known.
#[proc_macro_attribute]
pub fn on_change(annotation: TokenStream, item: TokenStream) -> TokenStream {
    on_change::expand(annotation.into(), item.into()).into()
}
