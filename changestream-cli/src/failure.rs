use std::{error::Error, io};

use changestream_core::{ReplayError, StoreError};
use clap::error::ErrorKind;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked for in a wrong way.
    Usage(ErrorKind, String),
    Failed(Box<dyn Error>),
    BrokenPipe,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(ErrorKind::ValueValidation, message.into())
    }

    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::Usage(ErrorKind::MissingRequiredArgument, message.into())
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into().into())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Failed(error.into()),
        }
    }
}

/// The messages of an error and of what caused it. An error of the driver prints the server's whole reply,
/// which may quote a document: of that, only what happened.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut messages = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(driver) = error.downcast_ref::<mongodb::error::Error>() {
            messages.push(driver.kind.to_string());
            break;
        }
        messages.push(error.to_string());
        next = error.source();
    }
    messages.join(": ")
}
