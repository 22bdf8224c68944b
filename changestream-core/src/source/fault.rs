//! What each error of a change stream means.

use mongodb::error::{Error as DriverError, ErrorKind};

use crate::error::{Error, Kind};

/// What to do about an error of the stream.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The stream resumes: a network error, a lost cursor, or the server says so (drivers'
    /// specification *Change Streams*, "Resumable Error").
    Resumable(DriverError),
    /// The deployment is not itself just now: the supervisor opens the stream again.
    Transient(DriverError),
    /// The oplog no longer holds the place to go on from.
    HistoryLost(DriverError),
    /// An event is too large to be sent.
    Oversize(DriverError),
    /// The server cannot go on with the stream from where it is.
    CannotResume(DriverError),
    /// Nothing but a person can mend it.
    Fatal(Error),
}

const CURSOR_NOT_FOUND: i32 = 43;
const CHANGE_STREAM_FATAL_ERROR: i32 = 280;
const CHANGE_STREAM_HISTORY_LOST: i32 = 286;
const BSON_OBJECT_TOO_LARGE: i32 = 10334;
/// `$changeStreamSplitLargeEvent` met a field that is too large by itself.
const CANNOT_SPLIT_EVENT: i32 = 7_182_500;

/// The error is of the deployment's state, not of the stream: elections, shutdowns, time limits, lost
/// authorization, a killed cursor.
const TRANSIENT: &[i32] = &[
    6, 7, 11, 13, 18, 50, 63, 89, 91, 133, 134, 136, 150, 189, 202, 216, 234, 237, 262, 290, 317,
    358, 384, 391, 9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436,
];

impl Fault {
    /// Of a `getMore`.
    pub(crate) fn of_cursor(error: DriverError) -> Self {
        let resumable = is_network_error(&error)
            || code(&error) == Some(CURSOR_NOT_FOUND)
            || error.contains_label("ResumableChangeStreamError");
        if resumable {
            Self::Resumable(error)
        } else {
            Self::of_aggregate(error)
        }
    }

    /// Of the `aggregate` that opens the stream, which is never resumed.
    pub(crate) fn of_aggregate(error: DriverError) -> Self {
        let Some(code) = code(&error) else {
            return match *error.kind {
                ErrorKind::InvalidArgument { .. } | ErrorKind::BsonSerialization(_) => {
                    Self::Fatal(fatal(None, error))
                }
                _ => Self::Transient(error),
            };
        };
        let labelled = [
            "ResumableChangeStreamError",
            "RetryableError",
            "SystemOverloadedError",
        ]
        .iter()
        .any(|label| error.contains_label(label));
        if labelled || code == CURSOR_NOT_FOUND || TRANSIENT.contains(&code) {
            return Self::Transient(error);
        }
        match code {
            CHANGE_STREAM_HISTORY_LOST => Self::HistoryLost(error),
            BSON_OBJECT_TOO_LARGE | CANNOT_SPLIT_EVENT => Self::Oversize(error),
            CHANGE_STREAM_FATAL_ERROR => Self::CannotResume(error),
            code => Self::Fatal(fatal(Some(code), error)),
        }
    }

    /// The error that ends the runtime where nothing else is to be done about it.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Fatal(error) => error,
            Self::Resumable(error)
            | Self::Transient(error)
            | Self::HistoryLost(error)
            | Self::Oversize(error)
            | Self::CannotResume(error) => fatal(code(&error), error),
        }
    }
}

fn is_network_error(error: &DriverError) -> bool {
    matches!(
        *error.kind,
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. }
    )
}

fn code(error: &DriverError) -> Option<i32> {
    match *error.kind {
        ErrorKind::Command(ref error) => Some(error.code),
        _ => None,
    }
}

fn fatal(code: Option<i32>, error: DriverError) -> Error {
    let (kind, message) = match code {
        Some(CHANGE_STREAM_HISTORY_LOST) => (
            Kind::HistoryLost,
            "the oplog no longer holds the place to go on from (ChangeStreamHistoryLost); events may have been \
             missed. Choose `OnLostHistory::Snapshot` to have the documents again, or `OnLostHistory::StartNow`; and \
             make the oplog larger",
        ),
        Some(260 | 9 | 14 | 15 | 40415 | 40647..=40649 | 50788..=50811) => (
            Kind::Stream,
            "the server does not take the resume token; it is of another stream or damaged. Delete the checkpoint to \
             start now",
        ),
        Some(CHANGE_STREAM_FATAL_ERROR) => (
            Kind::Stream,
            "the server cannot go on with this stream (ChangeStreamFatalError); its place may be hidden by a changed \
             filter",
        ),
        Some(BSON_OBJECT_TOO_LARGE) => (
            Kind::Stream,
            "an event is larger than 16 MB (BSONObjectTooLarge), and it was not split; choose \
             `OnOversizeEvent::Split` where the server can (6.0.9 and later), or `OnOversizeEvent::DeadLetter`",
        ),
        Some(CANNOT_SPLIT_EVENT) => (
            Kind::Stream,
            "a field of an event is so large that the event cannot be split; choose `OnOversizeEvent::DeadLetter`",
        ),
        Some(47) => (
            Kind::Stream,
            "a required image is missing (NoMatchingDocument)",
        ),
        _ => (Kind::Stream, "the server ended the change stream"),
    };
    Error::new(kind, message).caused_by(error)
}
