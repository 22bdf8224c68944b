//! What the user wrote ([`Annotation`]) and what it comes to once checked ([`Spec`]). Both keep their spans.

use std::time::Duration;

use syn::{Ident, LitInt, LitStr};

/// The keys of the annotation, each with the value that error messages show for it.
pub(crate) const KEYS: [(&str, &str); 11] = [
    (
        "coll",
        r#"`coll = "orders"` or `coll = ["orders", "carts"]`"#,
    ),
    ("db", r#"`db = "shop"`"#),
    ("op", r#"`op = "update"` or `op = ["insert", "update"]`"#),
    (
        "field",
        r#"`field = "status"` or `field = ["status", "customer.name"]`"#,
    ),
    (
        "to",
        r#"`to = "fulfillment"` or `to = ["fulfillment", "audit"]`"#,
    ),
    ("name", r#"`name = "order_status_changed"`"#),
    ("key", r#"`key = "customer.id"`"#),
    ("timeout", r#"`timeout = "10s"`"#),
    ("retries", "`retries = 5`"),
    ("backoff", r#"`backoff = "200ms"`"#),
    ("batch", r#"`batch(max = 500, within = "200ms")`"#),
];

/// The keys of `batch`, likewise.
pub(crate) const BATCH_KEYS: [(&str, &str); 2] =
    [("max", "`max = 500`"), ("within", r#"`within = "200ms"`"#)];

/// How `key` is written.
pub(crate) fn usage(key: &Ident) -> &'static str {
    KEYS.iter()
        .chain(&BATCH_KEYS)
        .find(|(name, _)| key == name)
        .map_or("", |(_, usage)| usage)
}

/// A key with its value.
pub(crate) struct Setting<T> {
    pub(crate) key: Ident,
    pub(crate) value: T,
}

/// The annotation as written: the right kind of value for each key, and nothing else checked.
#[derive(Default)]
pub(crate) struct Annotation {
    pub(crate) coll: Option<Setting<Vec<LitStr>>>,
    pub(crate) db: Option<Setting<LitStr>>,
    pub(crate) op: Option<Setting<Vec<LitStr>>>,
    pub(crate) field: Option<Setting<Vec<LitStr>>>,
    pub(crate) to: Option<Setting<Vec<LitStr>>>,
    pub(crate) name: Option<Setting<LitStr>>,
    pub(crate) key: Option<Setting<LitStr>>,
    pub(crate) timeout: Option<Setting<LitStr>>,
    pub(crate) retries: Option<Setting<LitInt>>,
    pub(crate) backoff: Option<Setting<LitStr>>,
    pub(crate) batch: Option<Setting<Batch>>,
}

/// What stands in the parentheses of `batch`.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) max: Option<Setting<LitInt>>,
    pub(crate) within: Option<Setting<LitStr>>,
}

/// What `HandlerSpec` is told. Mistaken values are left out, as if they had not been written.
pub(crate) struct Spec {
    pub(crate) name: LitStr,
    pub(crate) database: Option<LitStr>,
    pub(crate) collections: Vec<LitStr>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) fields: Vec<LitStr>,
    pub(crate) to: Vec<LitStr>,
    pub(crate) key: Option<LitStr>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) backoff: Option<Duration>,
    pub(crate) batch: Option<BatchLimits>,
}

/// How many events make a batch, and how long the first waits for the others.
pub(crate) struct BatchLimits {
    pub(crate) max: u32,
    pub(crate) within: Duration,
}

/// An operation that `op` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Insert,
    Update,
    Replace,
    Delete,
    Drop,
    Rename,
    DropDatabase,
    Invalidate,
    Snapshot,
}

impl Operation {
    pub(crate) const ALL: [(&str, Self); 9] = [
        ("insert", Self::Insert),
        ("update", Self::Update),
        ("replace", Self::Replace),
        ("delete", Self::Delete),
        ("drop", Self::Drop),
        ("rename", Self::Rename),
        ("drop_database", Self::DropDatabase),
        ("invalidate", Self::Invalidate),
        ("snapshot", Self::Snapshot),
    ];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name)?;
        Some(found.1)
    }
}
