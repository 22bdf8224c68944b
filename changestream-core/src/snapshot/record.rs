use bson::{RawDocument, RawDocumentBuf, Uuid};
use serde::{Deserialize, Serialize};

/// How far the snapshot of one collection has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SnapshotRecord {
    /// The database.
    pub database: String,
    /// The collection; `None` in the record that says that every collection of the database has one.
    pub collection: Option<String>,
    /// Names this snapshot, and is a part of the identity of each of its documents.
    pub id: String,
    /// That of the lease of whoever saved it.
    pub epoch: i64,
    /// Its parts, each of which goes on by itself.
    pub ranges: Vec<SnapshotRange>,
}

/// How far the snapshot of a range of a collection has come. Documents are told apart by their keys, `{_id: ..}`.
///
/// `Debug` does not show them.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SnapshotRange {
    /// Where it begins; at the collection's first document when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<RawDocumentBuf>,
    /// Before which document it ends; after the collection's last one when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<RawDocumentBuf>,
    /// All documents up to this one are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<RawDocumentBuf>,
    /// All documents are done.
    pub done: bool,
}

impl SnapshotRecord {
    /// Of a snapshot that has yet to begin.
    pub(crate) fn new(database: &str, collection: Option<&str>, epoch: i64) -> Self {
        Self {
            database: database.to_owned(),
            collection: collection.map(str::to_owned),
            id: Uuid::new().to_string(),
            epoch,
            ranges: vec![SnapshotRange::default()],
        }
    }

    /// Whether all documents are done.
    pub fn is_done(&self) -> bool {
        self.ranges.iter().all(|range| range.done)
    }

    /// Whether nothing was read yet.
    pub(crate) fn is_new(&self) -> bool {
        self.ranges == [SnapshotRange::default()]
    }

    /// Parts a new one at these keys.
    pub(crate) fn split(&mut self, bounds: Vec<RawDocumentBuf>) {
        let mut from = None;
        self.ranges.clear();
        for to in bounds.into_iter().map(Some).chain([None]) {
            self.ranges.push(SnapshotRange {
                from: std::mem::replace(&mut from, to.clone()),
                to,
                ..SnapshotRange::default()
            });
        }
    }
}

impl SnapshotRange {
    pub(crate) fn advance(&mut self, after: Option<RawDocumentBuf>, done: bool) {
        self.after = after.or(self.after.take());
        self.done = done;
    }
}

impl std::fmt::Debug for SnapshotRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotRange")
            .field("begun", &self.after.is_some())
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

/// The key of a document, from it or from a longer key.
pub(crate) fn key(document: &RawDocument) -> Option<RawDocumentBuf> {
    let id = document.get("_id").ok()??;
    let mut key = RawDocumentBuf::new();
    key.append(bson::cstr!("_id"), bson::RawBson::from(id));
    Some(key)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn the_ranges_of_a_split_record_meet() {
        let mut record = SnapshotRecord::new("shop", Some("orders"), 1);
        assert!(record.is_new() && !record.is_done());
        record.split(vec![rawdoc! { "_id": 1 }, rawdoc! { "_id": "a" }]);
        assert_eq!(record.ranges.len(), 3);
        assert_eq!(
            (&record.ranges[0].from, &record.ranges[2].to),
            (&None, &None)
        );
        for pair in record.ranges.windows(2) {
            assert!(pair[0].to.is_some() && pair[0].to == pair[1].from);
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_stored_null_keys_included() {
        let mut record = SnapshotRecord::new("shop", Some("orders"), 7);
        record.split(vec![rawdoc! { "_id": null }]);
        record.ranges[1].advance(Some(rawdoc! { "_id": f64::INFINITY }), false);
        let stored = bson::serialize_to_document(&record).expect("a document");
        let back: SnapshotRecord = bson::deserialize_from_document(stored).expect("a record");
        assert_eq!(back, record);
    }

    #[test]
    fn keys_do_not_show() {
        let mut range = SnapshotRange::default();
        range.advance(Some(rawdoc! { "_id": "secret" }), true);
        assert!(!format!("{range:?}").contains("secret"));
    }
}
