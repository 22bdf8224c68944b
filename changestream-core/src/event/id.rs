use std::fmt;

use bson::{RawDocument, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Names one change event: the same on every delivery of it, different for every other event.
///
/// It is the first half of the SHA-256 of the event's resume token, which alone identifies an event
/// (events of one transaction share their cluster time). The token itself holds the document key, so
/// it is not shown in logs and headers; its hash is. Displayed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; 16]);

impl EventId {
    pub(crate) fn of_token(token: &RawDocument) -> Self {
        let digest = Sha256::digest(token.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// The id's sixteen bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

/// When the change was written, on the server's logical clock.
///
/// Seconds since the Unix epoch and a counter within the second. Changes of one transaction share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterTime(pub Timestamp);

impl ClusterTime {
    /// Seconds since the Unix epoch.
    pub fn seconds(&self) -> u32 {
        self.0.time
    }

    /// The counter within the second.
    pub fn increment(&self) -> u32 {
        self.0.increment
    }
}
