//! Parts of the event as extractors.

use super::{FromChange, Reads, Rejection};
use crate::{
    event::{
        ClusterTime, DocumentKey, EventId, Namespace, Operation, RawChange, ResumeToken,
        UpdateDescription,
    },
    handler::{Attempt, ChangeRequest},
};

macro_rules! impl_from_change {
    ($($type:ty: $part:expr;)*) => {$(
        impl<S> FromChange<S> for $type {
            fn reads() -> Reads {
                Reads::NONE
            }

            fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
                let part: fn(&ChangeRequest) -> Self = $part;
                Ok(part(request))
            }
        }
    )*};
    ($($type:ty, or $absent:literal: $part:expr;)*) => {$(
        impl<S> FromChange<S> for $type {
            fn reads() -> Reads {
                Reads::NONE
            }

            fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
                let part: fn(&ChangeRequest) -> Option<Self> = $part;
                part(request).ok_or_else(|| Rejection::absent($absent))
            }
        }
    )*};
}

impl<S> FromChange<S> for RawChange {
    fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
        Ok(request.change().clone())
    }
}

impl_from_change! {
    Operation: |request| request.change().operation().clone();
    Namespace: |request| request.change().namespace();
    EventId: |request| request.change().event_id();
    ResumeToken: |request| request.change().token();
    Attempt: |request| request.attempt();
}

impl_from_change! {
    UpdateDescription, or "the event has no update description": |request| request.change().update_description();
    DocumentKey, or "the event has no document key": |request| request.change().document_key();
    ClusterTime, or "the event has no cluster time": |request| request.change().cluster_time();
}
