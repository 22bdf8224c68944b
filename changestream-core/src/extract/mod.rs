//! Extractors: the types a handler's arguments can have, and what each asks of the server.

mod batch;
mod borrow;
mod change;
mod document;
mod full_document;
mod needs;
mod option;
mod part;
mod plain;
mod pre_image;
mod probe;
mod reads;
mod rejection;
mod state;
mod transaction;
mod wrong_field;

pub use batch::FromBatch;
pub use borrow::{BorrowFromChange, Scratch};
pub use change::Change;
pub use full_document::FullDocument;
pub use needs::{Need, Needs};
pub use pre_image::PreImage;
pub use reads::Reads;
pub use rejection::Rejection;
pub use state::State;
pub use transaction::Transaction;

pub(crate) use reads::Fields;
pub(crate) use transaction::TransactionSlot;

use crate::handler::ChangeRequest;

/// A type that a handler can take as an argument, made from the change event.
///
/// `S` is the state that [`RuntimeBuilder::state`](crate::RuntimeBuilder::state) was given.
///
/// # Example
///
/// ```
/// use changestream_core::{ChangeRequest, FromChange, Rejection};
///
/// struct Tenant(String);
///
/// impl<S> FromChange<S> for Tenant {
///     fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
///         let database = request.change().database();
///         match database.strip_prefix("tenant_") {
///             Some(tenant) => Ok(Self(tenant.to_owned())),
///             None => Err(Rejection::new("the database is no tenant's")),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler with state `{S}`",
    label = "not an extractor",
    note = "extractors are `FullDocument<T>`, `PreImage<T>`, `Change<T>`, `UpdateDescription`, `DocumentKey`, \
            `Operation`, `Namespace`, `EventId`, `ClusterTime`, `Attempt`, `ResumeToken`, `State<S>`, `RawChange`, \
            `Transaction`, and `Option` of those",
    note = "to receive the changed document as `T`, which must be `Deserialize`, take `FullDocument<T>`; for a type \
            of your own implement `FromChange<S>`",
    note = "a `Vec` of one of them goes with `batch(max = .., within = ..)`, or `HandlerSpec::batch`"
)]
pub trait FromChange<S>: Send + Sized {
    /// What this extractor asks of the server; nothing by default.
    const NEEDS: Needs = Needs::NONE;

    /// Which fields it reads of the event's documents; by default all of both, for it may look at anything.
    ///
    /// Where [`Projection::Fields`](crate::Projection::Fields) is chosen, the server sends what the handlers of the
    /// runtime read, and nothing else.
    fn reads() -> Reads {
        Reads::WHOLE
    }

    /// Makes the value.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] sends the event to the dead letters of this handler without a retry.
    fn from_change(request: &ChangeRequest, state: &S) -> Result<Self, Rejection>;
}
