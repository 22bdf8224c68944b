//! Errors of the client library, told once.

use std::{error::Error as StdError, fmt};

use changestream_core::HandlerError;

type Cause = Box<dyn StdError + Send + Sync>;

/// What failed, and why.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    error: Cause,
    /// The error's own text repeats that of its cause, and the message says the rest of it.
    is_said: bool,
}

impl Failure {
    pub(super) fn retry(message: String, cause: impl Into<Cause>) -> HandlerError {
        HandlerError::retry(Self::new(message, cause, false))
    }

    pub(super) fn reject(message: String, cause: impl Into<Cause>) -> HandlerError {
        HandlerError::reject(Self::new(message, cause, false))
    }

    /// With the cause of an error whose kind the message says.
    pub(super) fn unavailable_in_words(message: String, error: impl Into<Cause>) -> HandlerError {
        HandlerError::unavailable(Self::new(message, error, true))
    }

    fn new(message: String, error: impl Into<Cause>, is_said: bool) -> Self {
        Self {
            message,
            error: error.into(),
            is_said,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.is_said {
            true => self.error.source(),
            false => Some(&*self.error),
        }
    }
}
