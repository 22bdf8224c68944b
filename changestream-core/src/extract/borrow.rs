use bumpalo::Bump;
use serde::de::DeserializeOwned;

use super::{Change, FromChange, FullDocument, Needs, PreImage, Reads, Rejection};
use crate::handler::ChangeRequest;

/// A type that an annotated handler can take as an argument and that borrows from the change event, for as long as the
/// handler runs.
///
/// [`FullDocument<T>`](FullDocument), [`PreImage<T>`](PreImage), [`Change<T>`](Change) and `Option` of these do so where
/// `T` does, as with fields of type `&str`: their text is not copied. The argument is written with the lifetime `'_`,
/// and the function has the annotation, which makes the call; [`HandlerSpec::new`](crate::HandlerSpec::new) takes
/// functions of [`FromChange`] only.
///
/// As everywhere with serde, a `&str` is of text that stands in the document as such, and a `&[u8]` of generic binary.
///
/// # Example
///
/// ```
/// use changestream_core::{BorrowFromChange, ChangeRequest, Rejection, Scratch};
///
/// struct Tenant<'r>(&'r str);
///
/// impl<'r> BorrowFromChange<'r> for Tenant<'r> {
///     fn borrow_from_change(request: &'r ChangeRequest, _: &'r Scratch) -> Result<Self, Rejection> {
///         let database = request.change().database();
///         let tenant = database.strip_prefix("tenant_").map(Self);
///         tenant.ok_or_else(|| Rejection::new("the database is no tenant's"))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler that borrows from the event",
    label = "not an extractor that borrows",
    note = "those are `FullDocument<T>`, `PreImage<T>`, `Change<T>` and `Option` of these, of a `T` that is \
            `Deserialize`; for a type of your own implement `BorrowFromChange`"
)]
pub trait BorrowFromChange<'r>: Send + Sized {
    /// As [`FromChange::NEEDS`].
    const NEEDS: Needs = Needs::NONE;

    /// As [`FromChange::reads`].
    fn reads() -> Reads {
        Reads::WHOLE
    }

    /// Makes the value.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] sends the event to the dead letters of this handler without a retry.
    fn borrow_from_change(
        request: &'r ChangeRequest,
        scratch: &'r Scratch,
    ) -> Result<Self, Rejection>;
}

/// Memory for values that are made on the way from a document to an argument, and that it may borrow from. An extractor hands it
/// on to those that it is made of. It takes none until it is used.
#[derive(Debug, Default)]
pub struct Scratch(pub(super) Bump);

macro_rules! impl_from_change {
    ($($extractor:ident)*) => {$(
        impl<S, T: DeserializeOwned + Send> FromChange<S> for $extractor<T> {
            const NEEDS: Needs = <Self as BorrowFromChange<'_>>::NEEDS;

            fn reads() -> Reads {
                <Self as BorrowFromChange<'_>>::reads()
            }

            fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
                Self::borrow_from_change(request, &Scratch::default())
            }
        }
    )*};
}

impl_from_change!(Change FullDocument PreImage);
