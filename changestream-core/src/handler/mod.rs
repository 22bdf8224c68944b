//! Handlers: functions of extractors, and how each is set up.

mod batch;
pub(crate) mod borrowing;
mod boxed;
mod error;
mod function;
mod partial;
mod request;
mod spec;

pub use batch::BatchHandler;
pub use boxed::BoxHandler;
pub use error::{Disposition, FailureKind, HandlerError};
pub use function::Handler;
pub use request::{Attempt, ChangeRequest};
pub use spec::HandlerSpec;

pub(crate) use batch::BatchLimits;
pub(crate) use partial::Partial;
pub(crate) use request::BatchItem;
pub(crate) use spec::{BoundHandler, PolicyOverrides, handler_layer};
