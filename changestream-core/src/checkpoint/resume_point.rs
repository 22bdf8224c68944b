use crate::event::{ClusterTime, ResumeToken};

/// A place in a change stream, and how the server is to take it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ResumePoint {
    /// After this token, as `resumeAfter`.
    ResumeAfter(ResumeToken),
    /// After this token, which may be of an `invalidate`, as `startAfter`.
    StartAfter(ResumeToken),
    /// After the split event of this token, as `resumeAfter`. The server takes it only where the event would be
    /// split as before, and its images may have expired. Else the stream goes on from the token's time, and
    /// the event comes again.
    SplitEvent(ResumeToken),
    /// The changes of this time and later, as `startAtOperationTime`.
    OperationTime(ClusterTime),
}

impl ResumePoint {
    /// What the point is called where it is stored: `resumeAfter`, `startAfter`, `splitEvent` or `operationTime`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ResumeAfter(_) => "resumeAfter",
            Self::StartAfter(_) => "startAfter",
            Self::SplitEvent(_) => "splitEvent",
            Self::OperationTime(_) => "operationTime",
        }
    }

    pub(crate) fn of_token(token: ResumeToken, kind: TokenKind) -> Self {
        match kind {
            TokenKind::ResumeAfter => Self::ResumeAfter(token),
            TokenKind::StartAfter => Self::StartAfter(token),
            TokenKind::SplitEvent => Self::SplitEvent(token),
        }
    }

    /// The place's time; `None` for a token of unknown format.
    pub(crate) fn cluster_time(&self) -> Option<ClusterTime> {
        match self {
            Self::ResumeAfter(token) | Self::StartAfter(token) | Self::SplitEvent(token) => {
                token.cluster_time().map(ClusterTime)
            }
            Self::OperationTime(time) => Some(*time),
        }
    }
}

/// How the server is to take a resume token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// As `resumeAfter`.
    ResumeAfter,
    /// As `startAfter`, which may follow an `invalidate`.
    StartAfter,
    /// As `resumeAfter`, where it is taken.
    SplitEvent,
}
