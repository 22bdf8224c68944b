//! Events and checkpoints with bytes flipped, cut and doubled: an error or a value, never a panic.

use std::fmt::Write;

use bson::{Bson, RawDocumentBuf, Timestamp, doc, rawdoc};
use changestream_core::{Checkpoint, FieldPath, Filter, Operation, RawChange};
use fastrand::Rng;

const MUTATIONS: u64 = 20_000;

fn events() -> [RawDocumentBuf; 3] {
    let event = |operation| {
        rawdoc! {
            "_id": { "_data": "8263" }, "operationType": operation,
            "clusterTime": Timestamp { time: 1, increment: 1 }, "wallTime": bson::DateTime::from_millis(1),
            "ns": { "db": "shop", "coll": "orders" }, "documentKey": { "_id": 1 },
            "fullDocument": { "_id": 1, "a": [{ "b": 1.5 }, "x"], "c": { "d": true } },
            "fullDocumentBeforeChange": { "_id": 1, "a": [{ "b": 2 }], "c": {} },
            "updateDescription": {
                "updatedFields": { "c.d": true, "a.0": { "b": 1 } }, "removedFields": ["e"],
                "truncatedArrays": [{ "field": "a", "newSize": 1 }],
            },
        }
    };
    ["insert", "update", "replace"].map(event)
}

/// Flips, cuts or doubles some bytes, and mostly puts the length right again.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(0..bytes.len());
        match rng.u32(0..6) {
            0 => bytes.truncate(at.max(5)),
            1 => bytes.insert(at, rng.u8(..)),
            2 => {
                let end = rng.usize(at..bytes.len().min(at + 32));
                bytes.extend_from_within(at..end);
            }
            3 => bytes[at] = [0x00, 0x01, 0x7f, 0x80, 0xff][rng.usize(0..5)],
            _ => bytes[at] ^= 1 << rng.u32(0..8),
        }
    }
    if rng.u32(0..5) > 0 {
        let length = i32::try_from(bytes.len()).expect("a small document");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        *bytes.last_mut().expect("not empty") = 0;
    }
}

fn filter(rng: &mut Rng, depth: u32) -> Filter {
    let some = |rng: &mut Rng| {
        (0..rng.usize(0..3))
            .map(|_| filter(rng, depth + 1))
            .collect()
    };
    let paths = ["a", "a.b", "a.0.b", "c.d", "e"];
    match rng.u32(0..if depth < 3 { 7 } else { 4 }) {
        0 => Filter::Operation(vec![Operation::Update, Operation::Replace]),
        1 => Filter::Database("shop".into()),
        2 => Filter::Collection(vec!["orders".into()]),
        3 => Filter::Changed(vec![
            FieldPath::new(paths[rng.usize(0..paths.len())]).expect("a path"),
        ]),
        4 => Filter::And(some(rng)),
        5 => Filter::Or(some(rng)),
        _ => Filter::Not(Box::new(filter(rng, depth + 1))),
    }
}

/// Asks for everything that there is to ask.
fn look_at(change: &RawChange) {
    let mut text = String::new();
    write!(text, "{change:?} {:?}", change.as_raw()).expect("a string takes all");
    let _ = (change.operation(), change.namespace(), change.event_id());
    let _ = (
        change.token().cluster_time(),
        change.cluster_time(),
        change.wall_time(),
    );
    let _ = (
        change.full_document(),
        change.pre_image(),
        change.is_header_only(),
    );
    if let Some(key) = change.document_key() {
        write!(text, "{key:?}").expect("a string takes all");
        let _ = key.get::<Bson>("_id");
    }
    if let Some(update) = change.update_description() {
        write!(text, "{update:?}").expect("a string takes all");
        let _ = (
            update.removed_fields().count(),
            update.truncated_arrays().count(),
        );
        for path in ["c.d", "a.0.b", ""] {
            let _ = (update.changed(path), update.get::<Bson>(path));
        }
    }
}

/// What holds for every filter and event.
fn check_identities(filter: &Filter, other: &Filter, change: &RawChange) {
    let _ = filter.stages();
    let [one, two] = [filter, other].map(|filter| filter.matches(change));
    let both = || vec![filter.clone(), other.clone()];
    assert_eq!(Filter::And(both()).matches(change), one && two);
    assert_eq!(Filter::Or(both()).matches(change), one || two);
    assert_eq!(Filter::Not(Box::new(filter.clone())).matches(change), !one);
    assert!(Filter::And(Vec::new()).matches(change));
    assert!(!Filter::Or(Vec::new()).matches(change));
}

#[test]
fn mutated_events_are_an_error_or_an_event() {
    let events = events();
    let mut decoded = 0;
    for seed in 0..MUTATIONS {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = events[rng.usize(0..events.len())].as_bytes().to_vec();
        mutate(&mut rng, &mut bytes);
        let Ok(change) = RawChange::new(bytes) else {
            continue;
        };
        decoded += 1;
        look_at(&change);
        let filters = [(); 2].map(|()| filter(&mut rng, 0));
        check_identities(&filters[0], &filters[1], &change);
    }
    assert!(decoded > MUTATIONS / 10, "{decoded} events were looked at");
}

#[test]
fn mutated_checkpoints_are_an_error_or_a_checkpoint() {
    let checkpoint = doc! {
        "_id": "test", "token": { "_data": "8263" }, "kind": "resumeAfter", "fingerprint": "f",
        "epoch": 1_i64, "sequence": 9_i64,
    };
    let checkpoint = bson::serialize_to_vec(&checkpoint).expect("a document");
    let mut decoded = 0;
    for seed in 0..MUTATIONS {
        let mut bytes = checkpoint.clone();
        mutate(&mut Rng::with_seed(seed), &mut bytes);
        if let Ok(checkpoint) = bson::deserialize_from_slice::<Checkpoint>(&bytes) {
            decoded += 1;
            // A token is kept as it came, and so may be broken within.
            let Ok(stored) = bson::serialize_to_document(&checkpoint) else {
                continue;
            };
            let again: Checkpoint =
                bson::deserialize_from_document(stored).expect("what was stored is a checkpoint");
            assert_eq!(again, checkpoint);
        }
    }
    assert!(
        decoded > MUTATIONS / 20,
        "{decoded} checkpoints were looked at"
    );
}
