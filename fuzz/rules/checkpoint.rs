//! Any document is a checkpoint or an error. A checkpoint says where the stream goes on, and comes back as it was stored.

use bson::Document;
use changestream_core::{Checkpoint, internals};

pub(crate) fn check(data: &[u8]) {
    // By another way: the token is not looked into, and may be rubbish.
    if let Ok(checkpoint) = bson::deserialize_from_slice::<Checkpoint>(data) {
        look_at(&checkpoint);
        let _ = bson::serialize_to_vec(&checkpoint);
    }

    // As the driver hands it to `MongoCheckpoints`.
    let Ok(document) = bson::deserialize_from_slice::<Document>(data) else {
        return;
    };
    let Ok(checkpoint) = bson::deserialize_from_document::<Checkpoint>(document) else {
        return;
    };
    look_at(&checkpoint);
    let stored = bson::serialize_to_document(&checkpoint).expect("it can be stored");
    let again: Checkpoint = bson::deserialize_from_document(stored).expect("it can be read back");
    assert_eq!(again, checkpoint);
}

fn look_at(checkpoint: &Checkpoint) {
    let _ = format!("{checkpoint:?}");
    let position = checkpoint.position.as_ref();
    assert!(position.is_some() || checkpoint.cluster_time().is_none());
    let kind = position.map(|position| position.kind());
    let same = internals::resumed(checkpoint, true);
    let other = internals::resumed(checkpoint, false);
    // With another pipeline it goes on from the time, where the token tells it.
    assert_eq!(same.is_empty(), position.is_none());
    match checkpoint.cluster_time() {
        Some(time) => {
            assert_eq!(
                other.get_timestamp("startAtOperationTime").ok(),
                Some(time.0)
            );
            let of_token = checkpoint.token().and_then(|token| token.cluster_time());
            assert!(of_token == Some(time.0) || kind == Some("operationTime"));
        }
        None => assert_eq!(same, other),
    }
}
