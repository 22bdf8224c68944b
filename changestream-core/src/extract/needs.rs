/// How much an extractor needs a document that the server adds only when asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Not at all.
    #[default]
    No,
    /// It takes the document where there is one.
    Optional,
    /// It cannot do without.
    Required,
}

/// What a handler's arguments ask of the server, from which the cursor's document modes follow, and of the
/// runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// The document after an update.
    pub full_document: Need,
    /// The document before the change.
    pub pre_image: Need,
    /// A transaction for each attempt, as [`Transaction`](crate::Transaction) has it.
    pub transaction: bool,
}

impl Needs {
    /// Nothing beyond what every event carries.
    pub const NONE: Self = Self {
        full_document: Need::No,
        pre_image: Need::No,
        transaction: false,
    };

    /// These needs, with the document after an update needed this much.
    #[must_use]
    pub const fn full_document(mut self, need: Need) -> Self {
        self.full_document = need;
        self
    }

    /// These needs, with the document before the change needed this much.
    #[must_use]
    pub const fn pre_image(mut self, need: Need) -> Self {
        self.pre_image = need;
        self
    }

    /// These needs, with a transaction for each attempt.
    #[must_use]
    pub const fn transaction(mut self) -> Self {
        self.transaction = true;
        self
    }

    /// What either needs.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            full_document: stronger(self.full_document, other.full_document),
            pre_image: stronger(self.pre_image, other.pre_image),
            transaction: self.transaction || other.transaction,
        }
    }

    /// The same documents, none of them required.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self {
            full_document: weaker(self.full_document, Need::Optional),
            pre_image: weaker(self.pre_image, Need::Optional),
            transaction: self.transaction,
        }
    }
}

const fn stronger(a: Need, b: Need) -> Need {
    if a as u8 > b as u8 { a } else { b }
}

const fn weaker(a: Need, b: Need) -> Need {
    if (a as u8) < b as u8 { a } else { b }
}
