//! What can stop a runtime, before it starts or while it runs.

use std::{error::Error as StdError, fmt};

/// Any error, boxed.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a runtime could not be built or start, or why it stopped.
///
/// Opaque, so that kinds can be added: ask with the `is_*` methods. `Display` names the thing and the
/// mend; the cause, where there is one, is its [`source`](StdError::source).
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<BoxError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Configuration,
    Driver,
    Unreachable,
    UnsupportedServer,
    HistoryLost,
    StartsOver,
    Invalidated,
    MissingImage,
    Stream,
    Store,
    Snapshot,
    LeaseLost,
    Repartitioned,
    DrainDeadline,
    Aborted,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// A configuration error, for the constructors of sinks and layers: what is wrong, and the mend.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(Kind::Configuration, message)
    }

    /// The error with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure, in other words.
    pub(crate) fn reworded(self, kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            ..self
        }
    }

    /// The runtime was put together wrongly: an unknown sink, two handlers of one name, a bad path.
    pub fn is_configuration(&self) -> bool {
        self.kind == Kind::Configuration
    }

    /// The MongoDB driver refused something before the runtime had to do with it, as a connection string.
    pub fn is_driver(&self) -> bool {
        self.kind == Kind::Driver
    }

    /// No server of the deployment answered at start-up.
    pub fn is_unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }

    /// The server cannot do what the handlers ask: it is no replica set, is too old, or does not record
    /// the images they need.
    pub fn is_unsupported_server(&self) -> bool {
        self.kind == Kind::UnsupportedServer
    }

    /// The place to go on from is gone from the oplog; nothing was skipped.
    pub fn is_history_lost(&self) -> bool {
        matches!(self.kind, Kind::HistoryLost | Kind::StartsOver)
    }

    /// The place to go on from is gone from the oplog, and the next start makes up for that.
    pub(crate) fn starts_over(&self) -> bool {
        self.kind == Kind::StartsOver
    }

    /// What the stream watches was dropped or renamed, and
    /// [`OnInvalidate::Stop`](crate::OnInvalidate::Stop) was chosen. Everything before is done.
    pub fn is_invalidated(&self) -> bool {
        self.kind == Kind::Invalidated
    }

    /// An event lacks an image that its handler requires; see [`OnMissingImage`](crate::OnMissingImage). The
    /// event comes again at the next start.
    pub fn is_missing_image(&self) -> bool {
        self.kind == Kind::MissingImage
    }

    /// The server ended the stream for good, for another reason than lost history.
    pub fn is_stream(&self) -> bool {
        self.kind == Kind::Stream
    }

    /// A checkpoint could not be read or claimed, or the lease not be acquired.
    pub fn is_store(&self) -> bool {
        self.kind == Kind::Store
    }

    /// A snapshot was not finished: its collection cannot be read, or the runtime stopped before. What was
    /// asked for at start-up goes on at the next start.
    pub fn is_snapshot(&self) -> bool {
        self.kind == Kind::Snapshot
    }

    /// Another replica took over during shutdown, before everything in flight was finished: it does the rest.
    pub fn is_lease_lost(&self) -> bool {
        self.kind == Kind::LeaseLost
    }

    /// Others have split the keys of the runtime into another number of partitions.
    pub(crate) fn is_repartitioned(&self) -> bool {
        self.kind == Kind::Repartitioned
    }

    /// The drain deadline passed at shutdown with events unfinished. They come again at the next start.
    pub fn is_drain_deadline(&self) -> bool {
        self.kind == Kind::DrainDeadline
    }

    /// A second signal ended the drain. Events that were unfinished come again at the next start.
    pub fn is_aborted(&self) -> bool {
        self.kind == Kind::Aborted
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// So that `?` serves the client and the runtime alike.
impl From<mongodb::error::Error> for Error {
    fn from(error: mongodb::error::Error) -> Self {
        Self::new(Kind::Driver, "the MongoDB driver failed").caused_by(error)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    message: String,
    #[source]
    source: Option<BoxError>,
}

impl StoreError {
    /// A failure to do `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            message: what.into(),
            source: None,
        }
    }

    /// The failure with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl StoreError {
    /// The message and its cause as the log may have them.
    pub(crate) fn brief(&self) -> String {
        let cause = self.source.as_ref();
        match cause.and_then(|cause| cause.downcast_ref::<mongodb::error::Error>()) {
            Some(cause) => format!("{}: {}", self.message, brief(cause)),
            None => self.message.clone(),
        }
    }
}

/// An error of the driver as the log may have it. What the server says may quote the command, and so a resume
/// token or a document: of that there is only the code.
pub fn brief(error: &mongodb::error::Error) -> String {
    use mongodb::error::{ErrorKind, WriteFailure};
    match *error.kind {
        ErrorKind::Command(ref error) => format!("{} ({})", error.code_name, error.code),
        ErrorKind::Write(WriteFailure::WriteError(ref error)) => {
            format!("write error {}", error.code)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(ref error)) => {
            format!("{} ({})", error.code_name, error.code)
        }
        ErrorKind::Io(_)
        | ErrorKind::Authentication { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::ServerSelection { .. } => error.kind.to_string(),
        _ => "an error of the driver".to_owned(),
    }
}

/// The messages of `error` and of everything that caused it, outermost first.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        messages.push(error.to_string());
        cause = error.source();
    }
    messages
}
