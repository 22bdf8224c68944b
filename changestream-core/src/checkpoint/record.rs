use bson::{Document, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, ResumePoint};
use crate::{
    event::{ClusterTime, ResumeToken},
    partition::Partitioning,
};

/// A checkpoint as it is stored. Those of earlier versions have no epoch, or no sequence: these count as 0.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<ResumeToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(default)]
    fingerprint: String,
    #[serde(default)]
    epoch: i64,
    #[serde(default)]
    sequence: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitioning: Option<Partitioning>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    ResumeAfter,
    StartAfter,
    SplitEvent,
    OperationTime,
}

impl From<Checkpoint> for Record {
    fn from(checkpoint: Checkpoint) -> Self {
        let (kind, token, time) = match checkpoint.position {
            None => (None, None, None),
            Some(ResumePoint::ResumeAfter(token)) => (Some(Kind::ResumeAfter), Some(token), None),
            Some(ResumePoint::StartAfter(token)) => (Some(Kind::StartAfter), Some(token), None),
            Some(ResumePoint::SplitEvent(token)) => (Some(Kind::SplitEvent), Some(token), None),
            Some(ResumePoint::OperationTime(time)) => {
                (Some(Kind::OperationTime), None, Some(time.0))
            }
        };
        Self {
            kind,
            token,
            time,
            fingerprint: checkpoint.fingerprint,
            epoch: checkpoint.epoch,
            sequence: checkpoint.sequence,
            partitioning: checkpoint.partitioning,
        }
    }
}

impl TryFrom<Record> for Checkpoint {
    type Error = &'static str;

    fn try_from(record: Record) -> Result<Self, Self::Error> {
        // It was not looked into so far, and would be refused only by whoever uses it.
        if let Some(token) = &record.token {
            Document::try_from(token.as_raw()).map_err(|_broken| "the token is no document")?;
        }
        let position = match (record.kind, record.token, record.time) {
            (None, None, None) => None,
            (Some(Kind::ResumeAfter), Some(token), None) => Some(ResumePoint::ResumeAfter(token)),
            (Some(Kind::StartAfter), Some(token), None) => Some(ResumePoint::StartAfter(token)),
            (Some(Kind::SplitEvent), Some(token), None) => Some(ResumePoint::SplitEvent(token)),
            (Some(Kind::OperationTime), None, Some(time)) => {
                Some(ResumePoint::OperationTime(ClusterTime(time)))
            }
            _ => return Err("the kind of the checkpoint does not go with its token or time"),
        };
        Ok(Self {
            position,
            fingerprint: record.fingerprint,
            epoch: record.epoch,
            sequence: record.sequence,
            partitioning: record.partitioning,
        })
    }
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    fn decoded(document: Document) -> Result<Checkpoint, bson::error::Error> {
        bson::deserialize_from_document(document)
    }

    #[test]
    fn every_checkpoint_is_stored_and_comes_back() {
        let token = ResumeToken::new(rawdoc! { "_data": "8263" });
        let time = ClusterTime(Timestamp {
            time: 7,
            increment: 3,
        });
        let positions = [
            None,
            Some(ResumePoint::ResumeAfter(token.clone())),
            Some(ResumePoint::StartAfter(token.clone())),
            Some(ResumePoint::SplitEvent(token)),
            Some(ResumePoint::OperationTime(time)),
        ];
        for position in positions {
            let checkpoint = Checkpoint {
                position,
                fingerprint: "f".to_owned(),
                epoch: 3,
                sequence: 4,
                partitioning: None,
            };
            let stored = bson::serialize_to_document(&checkpoint).expect("a document");
            assert_eq!(decoded(stored).expect("a checkpoint"), checkpoint);
        }
    }

    #[test]
    fn a_checkpoint_of_before_there_were_epochs_is_of_epoch_0() {
        let old = decoded(doc! {
            "_id": "test", "token": { "_data": "8263" }, "kind": "resumeAfter", "fingerprint": "f", "sequence": 9_i64,
        });
        let old = old.expect("a checkpoint");
        assert_eq!((old.epoch, old.sequence), (0, 9));
        assert!(matches!(old.position, Some(ResumePoint::ResumeAfter(_))));
    }

    #[test]
    fn a_checkpoint_of_before_there_were_sequences_is_of_sequence_0() {
        let old = decoded(doc! {
            "_id": "test", "token": { "_data": "8263" }, "kind": "resumeAfter", "fingerprint": "f", "epoch": 4_i64,
        });
        let old = old.expect("a checkpoint");
        assert_eq!((old.epoch, old.sequence), (4, 0));
        assert!(decoded(doc! { "sequence": "first" }).is_err());
    }

    #[test]
    fn a_token_that_is_broken_inside_makes_no_checkpoint() {
        let token = rawdoc! { "_data": "8263", "_typeBits": "bits" };
        let good = rawdoc! { "kind": "resumeAfter", "token": token };
        let stored = |text: &[u8], damaged: &[u8]| {
            let mut bytes = good.as_bytes().to_vec();
            let place = bytes.windows(text.len()).position(|bytes| bytes == text);
            let place = place.expect("it is in the token");
            bytes[place..place + text.len()].copy_from_slice(damaged);
            bson::deserialize_from_slice::<Checkpoint>(&bytes)
        };
        assert!(stored(b"bits", b"stib").is_ok());
        let no_utf8 = stored(b"bits", b"b\xFFts");
        let no_type = stored(b"\x02_typeBits", b"\x7A_typeBits");
        for broken in [no_utf8, no_type] {
            let error = broken.expect_err("no checkpoint").to_string();
            assert!(error.contains("the token is no document"), "{error}");
        }
    }

    #[test]
    fn a_claimed_document_without_a_position_is_a_checkpoint() {
        let claimed = decoded(doc! { "_id": "test", "epoch": 1_i64 }).expect("a checkpoint");
        assert_eq!((claimed.position, claimed.epoch), (None, 1));
    }

    #[test]
    fn rubbish_is_no_checkpoint() {
        let token = doc! { "_data": "8263" };
        for rubbish in [
            doc! { "token": 5 },
            doc! { "token": &token },
            doc! { "kind": "resumeAfter" },
            doc! { "kind": "operationTime", "token": &token },
            doc! { "kind": "sometime", "token": token },
            doc! { "epoch": "first" },
        ] {
            assert!(decoded(rubbish.clone()).is_err(), "{rubbish}");
        }
    }
}
