use crate::event::{ClusterTime, ResumeToken};

/// A place in a change stream, and how the server is to take it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ResumePoint {
    /// After this token, as `resumeAfter`.
    ResumeAfter(ResumeToken),
    /// After this token, which may be of an `invalidate`, as `startAfter`.
    StartAfter(ResumeToken),
    /// The changes of this time and later, as `startAtOperationTime`.
    OperationTime(ClusterTime),
}

impl ResumePoint {
    pub(crate) fn of_token(token: ResumeToken, kind: TokenKind) -> Self {
        match kind {
            TokenKind::ResumeAfter => Self::ResumeAfter(token),
            TokenKind::StartAfter => Self::StartAfter(token),
        }
    }

    /// The place's time; `None` for a token of unknown format.
    pub(crate) fn cluster_time(&self) -> Option<ClusterTime> {
        match self {
            Self::ResumeAfter(token) | Self::StartAfter(token) => {
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
}
