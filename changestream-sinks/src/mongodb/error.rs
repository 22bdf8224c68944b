//! What the failure of a write means. The server's own messages quote keys and documents: none of them is passed on.

use bson::Document;
use changestream_core::{HandlerError, server};
use mongodb::error::{Error as DriverError, ErrorKind};

const DUPLICATE_KEY: i32 = 11000;
const UNAUTHORIZED: i32 = 13;

/// Errors of a whole command that are about the documents in it, which are too large or too deep.
const OF_DOCUMENTS: &[i32] = &[15, 22, 10334];

/// Errors of one statement that pass: elections, shutdowns, time limits, locks, conflicts, chunks that move, a full disk. Any
/// other one is about its document.
const PASSING: &[i32] = &[
    6, 7, 13, 24, 46, 50, 63, 64, 89, 91, 112, 133, 134, 150, 189, 202, 216, 234, 249, 262, 317,
    358, 391, 9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031,
];

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct CommandFailed {
    message: String,
    source: Cause,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

/// That no statement of a command is known to be done.
pub(super) fn of_command(namespace: &str, error: &DriverError) -> HandlerError {
    let failed = |message: String| CommandFailed {
        message,
        source: Cause(server::brief(error)),
    };
    match *error.kind {
        ErrorKind::Command(ref error) if OF_DOCUMENTS.contains(&error.code) => {
            let message = format!("`{namespace}` does not take the document");
            HandlerError::reject(failed(message))
        }
        ErrorKind::Command(ref error) if error.code == UNAUTHORIZED => HandlerError::retry(failed(
            format!("the user has not the rights that the sink needs on `{namespace}`; grant them"),
        )),
        ErrorKind::Command(_) => HandlerError::retry(failed(format!(
            "the server does not write to `{namespace}`"
        ))),
        _ if is_of_login(&error.kind) => HandlerError::unavailable(format!(
            "the server refuses the login of the sink to `{namespace}`; mend its user, password or mechanism"
        )),
        ErrorKind::ServerSelection { .. } => {
            HandlerError::unavailable(failed(format!("no server for a write to `{namespace}`")))
        }
        _ => HandlerError::retry(failed(format!("no answer to a write to `{namespace}`"))),
    }
}

/// Whether a connection was refused to its user, be it that of another command.
fn is_of_login(kind: &ErrorKind) -> bool {
    match kind {
        ErrorKind::Authentication { .. } => true,
        ErrorKind::ConnectionPoolCleared { message, .. }
        | ErrorKind::ServerSelection { message, .. } => message.contains("AuthenticationFailed"),
        _ => false,
    }
}

/// That the majority has not confirmed a command.
pub(super) fn of_write_concern(namespace: &str, error: &Document) -> HandlerError {
    HandlerError::retry(format!(
        "the majority did not confirm a write to `{namespace}`: {}",
        named(error)
    ))
}

/// That one statement of a command is not done.
pub(super) fn of_statement(namespace: &str, error: &Document) -> HandlerError {
    let code = code(error);
    if PASSING.contains(&code) {
        let message = format!("the server does not write to `{namespace}`");
        return HandlerError::retry(format!("{message}: {}", named(error)));
    }
    let message = format!("`{namespace}` does not take the document");
    match error.get_document("keyPattern") {
        Ok(index) if code == DUPLICATE_KEY => {
            let fields: Vec<_> = index.keys().map(|field| format!("`{field}`")).collect();
            let fields = fields.join(", ");
            HandlerError::reject(format!("{message}: another one has its {fields}"))
        }
        _ => HandlerError::reject(format!("{message}: {}", named(error))),
    }
}

fn code(error: &Document) -> i32 {
    error.get_i32("code").unwrap_or_default()
}

/// Whether another document has the same `_id`.
pub(super) fn is_of_id(error: &Document) -> bool {
    let index = error.get_document("keyPattern");
    code(error) == DUPLICATE_KEY && index.is_ok_and(|index| index.keys().eq(["_id"]))
}

/// The error's name and code; statements have the code alone.
fn named(error: &Document) -> String {
    let code = code(error);
    let name = error.get_str("codeName").unwrap_or(match code {
        2 => "BadValue",
        14 => "TypeMismatch",
        28 => "PathNotViable",
        50 => "MaxTimeMSExpired",
        52 => "DollarPrefixedFieldName",
        53 => "InvalidIdField",
        56 => "EmptyFieldName",
        57 => "DottedFieldName",
        64 => "WriteConcernFailed",
        66 => "ImmutableField",
        112 => "WriteConflict",
        121 => "DocumentValidationFailure",
        DUPLICATE_KEY => "DuplicateKey",
        10334 | 17419 | 17420 => "BSONObjectTooLarge",
        14031 => "OutOfDiskSpace",
        _ => "error",
    });
    format!("{name} ({code})")
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use changestream_core::Disposition;

    use super::*;

    #[test]
    fn what_passes_is_retried_and_what_is_about_the_document_is_rejected() {
        for (code, disposition, expected) in [
            (
                11600,
                Disposition::Retry,
                "the server does not write to `a.b`: error (11600)",
            ),
            (
                112,
                Disposition::Retry,
                "the server does not write to `a.b`: WriteConflict (112)",
            ),
            (
                13,
                Disposition::Retry,
                "the server does not write to `a.b`: error (13)",
            ),
            (
                121,
                Disposition::Reject,
                "`a.b` does not take the document: DocumentValidationFailure (121)",
            ),
            (
                66,
                Disposition::Reject,
                "`a.b` does not take the document: ImmutableField (66)",
            ),
            (
                16755,
                Disposition::Reject,
                "`a.b` does not take the document: error (16755)",
            ),
        ] {
            let error = doc! { "index": 0, "code": code, "errmsg": "secret" };
            let error = of_statement("a.b", &error);
            assert_eq!(error.disposition(), disposition, "{code}");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_duplicate_key_names_the_fields_and_not_the_values() {
        let error = doc! {
            "index": 0, "code": DUPLICATE_KEY, "errmsg": "secret", "keyPattern": { "shop": 1, "sku": 1 },
            "keyValue": { "shop": "secret", "sku": "secret" },
        };
        assert!(!is_of_id(&error));
        let error = of_statement("a.b", &error);
        assert_eq!(error.disposition(), Disposition::Reject);
        assert_eq!(
            error.to_string(),
            "`a.b` does not take the document: another one has its `shop`, `sku`"
        );
        assert!(is_of_id(
            &doc! { "code": DUPLICATE_KEY, "keyPattern": { "_id": 1 } }
        ));
    }
}
