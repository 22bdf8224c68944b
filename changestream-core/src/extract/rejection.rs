use std::{borrow::Cow, error::Error as StdError, fmt};

use crate::error::BoxError;

/// Why an extractor refused an event.
///
/// Its message names what was refused, never the document's content; the cause may quote a value of the
/// document, so it goes to the dead letter and not to the log.
#[derive(Debug)]
pub struct Rejection {
    message: Cow<'static, str>,
    absent: bool,
    source: Option<BoxError>,
}

impl Rejection {
    /// A refusal that says `message`.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            absent: false,
            source: None,
        }
    }

    /// A refusal because the event lacks what the extractor takes; `Option` of the extractor is then
    /// `None`.
    pub fn absent(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            absent: true,
            ..Self::new(message)
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.absent
    }

    /// The refusal with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn decode(what: impl fmt::Display, error: bson::error::Error) -> Self {
        Self::new(format!("{what} does not decode")).caused_by(error)
    }

    pub(crate) fn into_error(self) -> BoxError {
        Box::new(RejectionError(self))
    }

    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A rejection as an error. [`Rejection`] is none itself, so that `?` on it rejects instead of retrying.
#[derive(Debug)]
struct RejectionError(Rejection);

impl fmt::Display for RejectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for RejectionError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause()
    }
}
