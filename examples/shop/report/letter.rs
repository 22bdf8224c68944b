//! Dead letters.

use std::fmt;

use serde::Deserialize;

/// A dead letter as it was found in the database.
#[derive(Debug, Deserialize)]
pub(crate) struct Letter {
    handler: String,
    sink: Option<String>,
    attempts: u32,
    error: Vec<String>,
    change: Change,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    document_key: Key,
}

#[derive(Debug, Deserialize)]
struct Key {
    #[serde(rename = "_id")]
    id: String,
}

impl Letter {
    /// Whether it is of a failure of `handler` itself on `document`.
    pub(crate) fn is_about(&self, handler: &str, document: &str) -> bool {
        self.sink.is_none() && self.handler == handler && self.change.document_key.id == document
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (handler, document) = (&self.handler, &self.change.document_key.id);
        write!(f, "of {handler} about {document}")?;
        if let Some(sink) = &self.sink {
            write!(f, " to {sink}")?;
        }
        write!(
            f,
            ", {} attempt(s): {}",
            self.attempts,
            self.error.join(": ")
        )
    }
}
