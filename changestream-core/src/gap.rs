//! Gaps: what was given up of a stream, because the user chose to.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bson::DateTime;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    checkpoint::CheckpointStore,
    event::{ClusterTime, EventId, ResumeToken},
    layer::Backoff,
    source::Position,
};

/// Between attempts to write a gap down.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// A part of the stream that a runtime did not see. Every event in it is missed, and nothing else says which
/// they were; with [`OnLostHistory::Snapshot`](crate::OnLostHistory::Snapshot), what they came to arrives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Gap {
    /// The gap's identity: runtime, kind, and a hash of where it begins. A gap that is found again, after a crash
    /// before the stream had moved, has the same.
    #[serde(rename = "_id")]
    pub id: String,
    /// The runtime that missed it.
    pub runtime: String,
    /// Why.
    pub kind: GapKind,
    /// The place after which events are missed; `None` where the runtime was to start at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<ResumeToken>,
    /// The time from which on events are missed, as far as the server's tokens tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_time: Option<ClusterTime>,
    /// The place after which the stream went on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<ResumeToken>,
    /// The time of that place, as far as the server's tokens tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_time: Option<ClusterTime>,
    /// When it was found, by the clock of the runtime's host.
    pub detected_at: DateTime,
}

/// Why a part of the stream was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum GapKind {
    /// The oplog no longer held it, and [`OnLostHistory::StartNow`](crate::OnLostHistory::StartNow) or
    /// [`OnLostHistory::Snapshot`](crate::OnLostHistory::Snapshot) was chosen.
    LostHistory,
}

impl Gap {
    pub(crate) fn new(runtime: &str, kind: GapKind, from: &Position, to: &Position) -> Self {
        let ((from, from_time), (to, to_time)) = (from.place(), to.place());
        let began = match (&from, from_time) {
            (Some(token), _) => EventId::of_token(token.as_raw()).to_string(),
            (None, Some(time)) => format!("{}.{}", time.seconds(), time.increment()),
            (None, None) => "now".to_owned(),
        };
        let name = match kind {
            GapKind::LostHistory => "lostHistory",
        };
        Self {
            id: format!("{runtime}/{name}/{began}"),
            runtime: runtime.to_owned(),
            kind,
            from,
            from_time,
            to,
            to_time,
            detected_at: DateTime::from_system_time(SystemTime::now()),
        }
    }
}

/// Writes a runtime's gaps down.
#[derive(Debug)]
pub(crate) struct GapRecorder {
    pub(crate) store: Arc<dyn CheckpointStore>,
    pub(crate) runtime: Arc<str>,
}

impl GapRecorder {
    /// Is done when the gap is durable; a failing store is tried again and again.
    pub(crate) async fn record(&self, kind: GapKind, from: &Position, to: &Position) {
        let gap = Gap::new(&self.runtime, kind, from, to);
        tracing::error!(
            gap = gap.id,
            from = ?gap.from_time,
            to = ?gap.to_time,
            "events are missed, as the runtime's policy allows; the stream goes on once this is written down"
        );
        let mut failures = 0;
        while let Err(error) = self.store.record_gap(&gap).await {
            failures += 1;
            let wait = BACKOFF.wait(failures);
            tracing::error!(
                error = error.brief(),
                ?wait,
                "the gap cannot be written down; it is tried again"
            );
            sleep(wait).await;
        }
    }
}
