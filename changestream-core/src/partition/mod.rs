//! Partitions: the keys of one stream, split among the replicas of a runtime.

mod group;
mod job;
mod partitioning;
mod share;

pub use partitioning::Partitioning;

pub(crate) use group::share;
pub(crate) use partitioning::{begin, settle};

use std::{hash::Hasher, sync::Arc};

use bson::RawBsonRef;
use sha2::{Digest, Sha256};

use crate::{
    bson_path,
    event::{Operation, RawChange},
    filter::FieldPath,
    handler::BoundHandler,
    health::HealthReporter,
    key,
    runtime::Runtime,
};

/// More would cost the server more than they spread: each is a cursor of its own.
pub(crate) const MAX: u32 = 64;

/// One of the parts that the keys of a stream are split into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) index: u32,
    pub(crate) count: u32,
}

/// What a lease and a checkpoint are for: all of a runtime, or a partition of it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: Arc<str>,
    pub(crate) partition: Option<Partition>,
    /// Where its work reports to.
    pub(crate) health: HealthReporter,
}

impl Slot {
    /// All of `runtime`.
    pub(crate) fn whole(runtime: &Runtime) -> Self {
        Self {
            name: Arc::clone(&runtime.parts.name),
            partition: None,
            health: runtime.health.clone(),
        }
    }

    /// A part of a runtime, which reports for itself.
    fn part(name: String, partition: Option<Partition>) -> Self {
        let name = name.into();
        Self {
            health: HealthReporter::new(&name),
            name,
            partition,
        }
    }
}

/// The name of a partition's lease and checkpoint.
fn name(runtime: &str, index: u32) -> String {
    format!("{runtime}/{index}")
}

/// Whether `name` is that of a partition of `runtime`.
pub(crate) fn is_of(name: &str, runtime: &str) -> bool {
    split(name).is_some_and(|(of, _)| of == runtime)
}

/// The runtime and the index in the name of a partition.
pub(crate) fn split(name: &str) -> Option<(&str, u32)> {
    let (runtime, index) = name.rsplit_once('/')?;
    let is_canonical = |parsed: &u32| parsed.to_string() == index;
    Some((runtime, index.parse().ok().filter(is_canonical)?))
}

/// All names of partitions of `runtime` are between these two, the second excluded, and others may be.
pub(crate) fn names(runtime: &str) -> [String; 2] {
    [format!("{runtime}/"), format!("{runtime}0")]
}

impl Partition {
    /// Whether `change` is in this partition, for a handler whose key is at `path`.
    ///
    /// Each partition reads the stream for itself, so this goes by what every reader sees alike, whenever it comes
    /// to the event: not by a looked-up document, nor by an image that may have expired.
    pub(crate) fn has(self, change: &RawChange, path: Option<&FieldPath>) -> bool {
        index(change, path, self.count) == self.index
    }
}

/// The partition of an event; 0 for an event of no document.
fn index(change: &RawChange, path: Option<&FieldPath>, count: u32) -> u32 {
    let mut hasher = StableHasher::default();
    let written = match path.and_then(|path| at(change, path)) {
        Some(value) => {
            key::write(value, &mut hasher);
            Some(())
        }
        None => key::write_document_key(change, &mut hasher),
    };
    let hash = written.map_or(0, |()| hasher.finish());
    (hash % u64::from(count)) as u32
}

fn at<'a>(change: &'a RawChange, path: &FieldPath) -> Option<RawBsonRef<'a>> {
    let stored = match change.operation() {
        Operation::Insert | Operation::Replace => change.full_document(),
        _ => None,
    };
    let documents = [change.raw_document_key(), stored];
    let mut documents = documents.into_iter().flatten();
    documents.find_map(|document| bson_path::get(document, path.as_str()))
}

/// What keeps the events of one key of `handler` from being told apart by their partitions.
pub(crate) fn obstacle(handler: &BoundHandler) -> Option<&FieldPath> {
    let path = handler.key.as_ref()?;
    let operations = &handler.selection.operations;
    let carries_it = |operation: &Operation| {
        use Operation::{Insert, Replace, Snapshot};
        matches!(operation, Insert | Replace | Snapshot)
    };
    let is_carried = path.first_segment() == "_id" || operations.iter().all(carries_it);
    (!is_carried).then_some(path)
}

/// The first eight bytes of SHA-256, little-endian: the same in every process, version and machine, and in no
/// step with the keys.
#[derive(Default)]
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        let first: [u8; 8] = std::array::from_fn(|index| digest[index]);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, RawDocumentBuf, doc, oid::ObjectId, rawdoc};

    use super::*;

    fn change(operation: &str, key: RawDocumentBuf, document: RawDocumentBuf) -> RawChange {
        let event = rawdoc! {
            "_id": { "_data": "82" }, "operationType": operation,
            "ns": { "db": "shop", "coll": "orders" }, "documentKey": key, "fullDocument": document,
        };
        RawChange::new(event.into_bytes()).expect("an event")
    }

    fn index_of(id: impl Into<Bson>) -> u32 {
        let key = RawDocumentBuf::try_from(&doc! { "_id": id.into() }).expect("a document");
        index(&change("update", key, rawdoc! {}), None, 1_000)
    }

    /// Worked out by another program. Replicas of different versions share the work while a new one is rolled out.
    #[test]
    fn the_partition_of_a_key_is_the_same_for_ever() {
        let id = ObjectId::parse_str("507f1f77bcf86cd799439011").expect("an object id");
        let found = [
            index_of(1),
            index_of(-7.5),
            index_of("order-1"),
            index_of(id),
            index_of(doc! { "shop": "a", "n": 1 }),
            index_of(true),
            index_of(bson::DateTime::from_millis(1_700_000_000_000)),
            index_of(Bson::Null),
        ];
        assert_eq!(found, [160, 212, 101, 493, 933, 981, 710, 20]);
    }

    #[test]
    fn a_name_tells_the_runtime() {
        assert_eq!(split(&name("shop", 12)), Some(("shop", 12)));
        assert!(is_of("a/b/0", "a/b") && !is_of("a/b/0", "a"));
        for other in [
            "shop",
            "shop/",
            "shop/x",
            "shop/01",
            "shop/+1",
            "shop/-1",
            "shop/replica/x",
        ] {
            assert_eq!(split(other), None, "{other}");
        }
        let [first, end] = names("shop");
        for index in [0, 9, 63] {
            assert!((&first..&end).contains(&&name("shop", index)));
        }
    }

    #[test]
    fn numbers_that_are_equal_share_a_partition() {
        let decimal = |text: &str| text.parse::<bson::Decimal128>().expect("a decimal");
        let five = index_of(5);
        for other in [index_of(5_i64), index_of(5.0), index_of(decimal("5.00"))] {
            assert_eq!(other, five);
        }
        assert_eq!(index_of(-0.0), index_of(0));
        assert_eq!(index_of(-f64::NAN), index_of(decimal("NaN")));
        assert_ne!(index_of(6), five);
        let within = |n: Bson| index_of(doc! { "a": [n] });
        assert_eq!(within(5.into()), within(5.0.into()));
    }

    #[test]
    fn keys_are_spread_evenly() {
        let mut counts = [0; 4];
        for id in 0..4_000 {
            counts[index_of(id * 1_024) as usize % 4] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn an_event_is_in_one_partition() {
        for id in 0..100 {
            let change = change("insert", rawdoc! { "_id": id }, rawdoc! {});
            let has = |index| Partition { index, count: 5 }.has(&change, None);
            assert_eq!((0..5).filter(|index| has(*index)).count(), 1);
        }
    }

    #[test]
    fn an_event_of_no_document_is_in_the_first_partition() {
        let event = rawdoc! { "_id": { "_data": "82" }, "operationType": "drop" };
        let change = RawChange::new(event.into_bytes()).expect("an event");
        let has = |index| Partition { index, count: 3 }.has(&change, None);
        assert_eq!([0, 1, 2].map(has), [true, false, false]);
    }

    #[test]
    fn a_path_gathers_the_documents_that_share_its_value() {
        let path = FieldPath::new("customer").expect("a path");
        let index_of = |id: i32, customer: i32| {
            let document = rawdoc! { "customer": customer };
            index(
                &change("insert", rawdoc! { "_id": id }, document),
                Some(&path),
                1_000,
            )
        };
        assert_eq!(index_of(1, 7), index_of(2, 7));
        assert_ne!(index_of(1, 7), index_of(1, 8));
    }

    /// Two readers may find it different, and then neither would handle the event.
    #[test]
    fn a_looked_up_document_decides_nothing() {
        let path = FieldPath::new("customer").expect("a path");
        let index_of = |document| {
            let change = change("update", rawdoc! { "_id": 1 }, document);
            index(&change, Some(&path), 1_000)
        };
        assert_eq!(index_of(rawdoc! { "customer": 7 }), index_of(rawdoc! {}));
    }
}
