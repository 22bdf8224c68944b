use bson::Document;

use crate::{
    checkpoint::{ResumePoint, TokenKind},
    event::{ClusterTime, Operation, RawChange, ResumeToken},
};

/// Where a runtime starts that has no checkpoint yet.
///
/// A stored checkpoint always goes first: a service that restarts goes on where it stopped. To start
/// elsewhere, delete the checkpoint or name the runtime anew.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum StartAt {
    /// With the changes from now on.
    #[default]
    Now,
    /// After this token, as `resumeAfter`.
    ResumeAfter(ResumeToken),
    /// After this token, which may be of an `invalidate`, as `startAfter`.
    StartAfter(ResumeToken),
    /// With the changes of this time and later.
    OperationTime(ClusterTime),
}

/// Where the cursor opens.
#[derive(Clone, Debug)]
pub(crate) enum Position {
    Now,
    Token(ResumeToken, TokenKind),
    OperationTime(ClusterTime),
}

impl Position {
    /// Adds the position to the options of `$changeStream`.
    pub(crate) fn add_to(&self, options: &mut Document) {
        match self {
            Self::Now => {}
            Self::Token(token, kind) => {
                let key = match kind {
                    TokenKind::ResumeAfter | TokenKind::SplitEvent => "resumeAfter",
                    TokenKind::StartAfter => "startAfter",
                };
                let token = Document::try_from(token.as_raw()).unwrap_or_default();
                options.insert(key, token);
            }
            Self::OperationTime(time) => {
                options.insert("startAtOperationTime", time.0);
            }
        }
    }

    /// Its token and its time, as far as they are known.
    pub(crate) fn place(&self) -> (Option<ResumeToken>, Option<ClusterTime>) {
        match self {
            Self::Now => (None, None),
            Self::Token(token, _) => (Some(token.clone()), token.cluster_time().map(ClusterTime)),
            Self::OperationTime(time) => (None, Some(*time)),
        }
    }

    /// Whether only a stream that splits events goes on from it.
    pub(crate) fn is_of_split_event(&self) -> bool {
        matches!(self, Self::Token(_, TokenKind::SplitEvent))
    }

    /// Where to go on from when the server does not take the token of a split event: the event's time. No event
    /// is lost, and those of that very time come again. `None` for any other position.
    pub(crate) fn before_split_event(&self) -> Option<Self> {
        match self {
            Self::Token(token, TokenKind::SplitEvent) => {
                Some(Self::OperationTime(ClusterTime(token.cluster_time()?)))
            }
            _ => None,
        }
    }

    /// Where to go on from `point` with the pipeline of `fingerprint`, when it was saved with that of `saved_with`.
    ///
    /// A token belongs to the pipeline that it came from. With another one, the stream goes on from the
    /// token's time: no event is lost, and the events of that very time come again.
    pub(crate) fn of_checkpoint(point: ResumePoint, saved_with: &str, fingerprint: &str) -> Self {
        let (token, kind) = match point {
            ResumePoint::ResumeAfter(token) => (token, TokenKind::ResumeAfter),
            ResumePoint::StartAfter(token) => (token, TokenKind::StartAfter),
            ResumePoint::SplitEvent(token) => (token, TokenKind::SplitEvent),
            ResumePoint::OperationTime(time) => return Self::OperationTime(time),
        };
        if saved_with == fingerprint {
            return Self::Token(token, kind);
        }
        match token.cluster_time() {
            Some(time) => {
                tracing::warn!(
                    "the handlers' filters, document modes or projection changed since the last checkpoint; going on \
                     from its time, so that events of that time may come again"
                );
                Self::OperationTime(ClusterTime(time))
            }
            None => Self::Token(token, kind),
        }
    }

    /// The position as it can be stored; `None` for now.
    pub(crate) fn resume_point(&self) -> Option<ResumePoint> {
        match self {
            Self::Now => None,
            Self::Token(token, kind) => Some(ResumePoint::of_token(token.clone(), *kind)),
            Self::OperationTime(time) => Some(ResumePoint::OperationTime(*time)),
        }
    }
}

impl From<StartAt> for Position {
    fn from(start_at: StartAt) -> Self {
        match start_at {
            StartAt::Now => Self::Now,
            StartAt::ResumeAfter(token) => Self::Token(token, TokenKind::ResumeAfter),
            StartAt::StartAfter(token) => Self::Token(token, TokenKind::StartAfter),
            StartAt::OperationTime(time) => Self::OperationTime(time),
        }
    }
}

/// A place that the stream has come to: after an event, or after a batch.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    Event(RawChange),
    Token(ResumeToken, TokenKind),
}

impl Mark {
    pub(crate) fn token(&self) -> (ResumeToken, TokenKind) {
        match self {
            Self::Event(change) => {
                let kind = match change.operation() {
                    Operation::Invalidate => TokenKind::StartAfter,
                    _ if change.was_split() => TokenKind::SplitEvent,
                    _ => TokenKind::ResumeAfter,
                };
                (change.token(), kind)
            }
            Self::Token(token, kind) => (token.clone(), *kind),
        }
    }
}
