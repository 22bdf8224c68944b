use std::fmt;

/// The database and, for all but database-wide events, the collection of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace {
    database: String,
    collection: Option<String>,
}

impl Namespace {
    /// A namespace from its parts.
    pub fn new(database: impl Into<String>, collection: Option<String>) -> Self {
        Self {
            database: database.into(),
            collection,
        }
    }

    /// The database; empty for an `invalidate`, which names none.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The collection; `None` for `dropDatabase` and `invalidate`.
    pub fn collection(&self) -> Option<&str> {
        self.collection.as_deref()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.database)?;
        match &self.collection {
            Some(collection) => write!(f, ".{collection}"),
            None => Ok(()),
        }
    }
}
