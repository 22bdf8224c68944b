use std::fmt;

use bson::{RawDocument, RawDocumentBuf, Timestamp};
use serde::{Deserialize, Serialize};

use super::EventId;

/// A place in the change stream, from which the server can go on.
///
/// Its content belongs to the server and holds the document key, so `Debug` shows only a hash.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResumeToken(RawDocumentBuf);

impl ResumeToken {
    /// A token from the document that the server gave.
    pub fn new(token: RawDocumentBuf) -> Self {
        Self(token)
    }

    /// The token's document.
    pub fn as_raw(&self) -> &RawDocument {
        &self.0
    }

    /// When the token's place was written, read out of the token; `None` where its format is unknown.
    ///
    /// The server's `KeyString` encoding puts the cluster time first: the type byte `0x82`, then seconds
    /// and increment, big-endian.
    pub fn cluster_time(&self) -> Option<Timestamp> {
        let data = self.0.get_str("_data").ok()?;
        let number = |range| u32::from_str_radix(data.get(range)?, 16).ok();
        if data.get(..2)? != "82" {
            return None;
        }
        Some(Timestamp {
            time: number(2..10)?,
            increment: number(10..18)?,
        })
    }
}

impl From<&RawDocument> for ResumeToken {
    fn from(token: &RawDocument) -> Self {
        Self(token.to_owned())
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResumeToken({})", EventId::of_token(&self.0))
    }
}
