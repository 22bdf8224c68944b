use std::fmt;

/// What happened, as the event's `operationType` says (MongoDB manual, *Change Events*).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// A document was inserted.
    Insert,
    /// A document was updated in place.
    Update,
    /// A document was replaced by another with the same `_id`.
    Replace,
    /// A document was deleted, by a client or by a TTL index.
    Delete,
    /// A collection was dropped.
    Drop,
    /// A collection was renamed.
    Rename,
    /// A database was dropped.
    DropDatabase,
    /// The stream itself ended because what it watches is gone.
    Invalidate,
    /// Nothing: the document was there when a [snapshot](crate::Snapshot) was taken. The server has no such event.
    Snapshot,
    /// An operation this version of the crate has no name for.
    Other(String),
}

impl Operation {
    /// The operation's name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Drop => "drop",
            Self::Rename => "rename",
            Self::DropDatabase => "dropDatabase",
            Self::Invalidate => "invalidate",
            Self::Snapshot => "snapshot",
            Self::Other(name) => name,
        }
    }

    /// The operation of this name; `None` where it is another.
    pub(crate) fn known(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"insert" => Self::Insert,
            b"update" => Self::Update,
            b"replace" => Self::Replace,
            b"delete" => Self::Delete,
            b"drop" => Self::Drop,
            b"rename" => Self::Rename,
            b"dropDatabase" => Self::DropDatabase,
            b"invalidate" => Self::Invalidate,
            b"snapshot" => Self::Snapshot,
            _ => return None,
        })
    }

    /// Whether the event is of a whole database or of the stream, so that it names no collection.
    pub(crate) fn is_without_collection(&self) -> bool {
        matches!(self, Self::DropDatabase | Self::Invalidate)
    }
}

impl From<&str> for Operation {
    fn from(name: &str) -> Self {
        Self::known(name.as_bytes()).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
