use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use super::Partial;
use crate::{error::BoxError, extract::Rejection};

/// Why a handler or a sink did not succeed, and what happens next.
///
/// `?` turns any error into one that is retried. Say so with [`retry`](Self::retry), ask for a pause with
/// [`retry_after`](Self::retry_after), or give up at once with [`reject`](Self::reject).
///
/// Like any error that `?` makes of others, it is not an [`Error`](StdError) itself; it turns into a
/// [`BoxError`].
///
/// # Example
///
/// ```
/// use changestream_core::HandlerError;
///
/// fn quantity(text: &str) -> Result<u32, HandlerError> {
///     text.parse().map_err(HandlerError::reject)
/// }
///
/// assert!(quantity("many").is_err());
/// ```
pub struct HandlerError {
    disposition: Disposition,
    kind: FailureKind,
    attempts: u32,
    source: BoxError,
}

/// What happens after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// Another attempt after the backoff, while there are attempts left.
    Retry,
    /// Another attempt after this pause, while there are attempts left.
    RetryAfter(Duration),
    /// No other attempt: straight to the dead letters.
    Reject,
}

/// What kind of failure it was; the `kind` label of `changestream_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler or sink returned an error.
    Failed,
    /// What a sink sends to was not there; see [`HandlerError::unavailable`].
    Unavailable,
    /// An extractor refused the event.
    Rejection,
    /// The event was too large to come whole; see [`OnOversizeEvent`](crate::OnOversizeEvent).
    Oversize,
    /// The attempt took longer than its timeout.
    Timeout,
    /// The handler or sink panicked.
    Panic,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Failed,
        Self::Unavailable,
        Self::Rejection,
        Self::Oversize,
        Self::Timeout,
        Self::Panic,
    ];

    /// The kind as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::Rejection => "rejection",
            Self::Oversize => "oversize",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
        }
    }
}

impl HandlerError {
    /// A failure to be retried with backoff; what `?` makes.
    pub fn retry(source: impl Into<BoxError>) -> Self {
        Self::new(Disposition::Retry, FailureKind::Failed, source)
    }

    /// A failure to be retried after `pause`.
    pub fn retry_after(pause: Duration, source: impl Into<BoxError>) -> Self {
        Self::new(Disposition::RetryAfter(pause), FailureKind::Failed, source)
    }

    /// What a sink sends to, or the part of it that this message is for, is not there: no connection, or no leader for the
    /// key. It is retried, and is not the message's fault: where a sink that is down
    /// [pauses](crate::OnSinkDown::Pause), the message does not become a dead letter for it, although others are answered meanwhile.
    ///
    /// What the message itself may have caused, such as a connection that ends after it was sent, is [`retry`](Self::retry).
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::new(Disposition::Retry, FailureKind::Unavailable, source)
    }

    /// A failure that no retry can mend: the event goes straight to the dead letters.
    pub fn reject(source: impl Into<BoxError>) -> Self {
        Self::new(Disposition::Reject, FailureKind::Failed, source)
    }

    /// A failure of some items of a batch, each named by its place in the `Vec` that the handler was given, the
    /// first of which is 0. The others are done.
    ///
    /// Those that may be retried come again together, in their order, as a smaller batch and a further attempt, once
    /// the longest of their waits is over; meanwhile the handler gets no other batch. The others of those
    /// named become dead letters, each with its own error. Where a document's events have to be in order, name
    /// the later ones with the one that failed, for what is done is not undone.
    ///
    /// A place that is not in the batch makes all of it count as failed. So does any other error of a handler of
    /// batches, a timeout or a panic. From a handler of single events it is an error like any other.
    ///
    /// # Example
    ///
    /// ```
    /// use changestream_core::{DocumentKey, HandlerError};
    /// # async fn index(key: &DocumentKey) -> Result<(), std::io::Error> { Ok(()) }
    ///
    /// async fn index_all(keys: Vec<DocumentKey>) -> Result<(), HandlerError> {
    ///     let mut failed = Vec::new();
    ///     for (place, key) in keys.iter().enumerate() {
    ///         if let Err(error) = index(key).await {
    ///             failed.push((place, HandlerError::retry(error)));
    ///         }
    ///     }
    ///     match failed.is_empty() {
    ///         true => Ok(()),
    ///         false => Err(HandlerError::partial(failed)),
    ///     }
    /// }
    /// ```
    pub fn partial(failed: impl IntoIterator<Item = (usize, HandlerError)>) -> Self {
        Self::of_partial(Partial::failed(failed))
    }

    pub(crate) fn of_partial(partial: Partial) -> Self {
        Self::new(Disposition::Retry, FailureKind::Failed, partial)
    }

    /// The failed items, where it names some.
    pub(crate) fn into_partial(self) -> Result<Partial, Self> {
        match self.source.downcast() {
            Ok(partial) => Ok(*partial),
            Err(source) => Err(Self { source, ..self }),
        }
    }

    /// The same error for each of several, such as the items of a batch that went in one request.
    pub fn into_shared(self) -> impl Fn() -> Self {
        let Self {
            disposition,
            kind,
            attempts,
            source,
        } = self;
        let source = Shared(source.into());
        move || Self {
            disposition,
            kind,
            attempts,
            source: Box::new(source.clone()),
        }
    }

    pub(crate) fn oversize() -> Self {
        Self::new(
            Disposition::Reject,
            FailureKind::Oversize,
            "the event is too large to come whole; its field `omittedFields` says what is missing",
        )
    }

    pub(crate) fn timeout(after: Duration) -> Self {
        Self::new(
            Disposition::Retry,
            FailureKind::Timeout,
            format!("no result within {after:?}"),
        )
    }

    pub(crate) fn panic(message: String) -> Self {
        Self::new(Disposition::Retry, FailureKind::Panic, message)
    }

    fn new(disposition: Disposition, kind: FailureKind, source: impl Into<BoxError>) -> Self {
        Self {
            disposition,
            kind,
            attempts: 1,
            source: source.into(),
        }
    }

    /// What happens next.
    pub fn disposition(&self) -> Disposition {
        self.disposition
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The error that the handler gave.
    pub fn source(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.source
    }

    pub(crate) fn into_source(self) -> BoxError {
        self.source
    }

    /// How many attempts were made until this, the last of them, failed.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn set_attempts(&mut self, attempts: u32) {
        self.attempts = attempts;
    }

    /// The error's messages, outermost first.
    pub(crate) fn chain(&self) -> Vec<String> {
        crate::error::chain(&*self.source)
    }

    /// The error that came out of a layer, which may be one of ours that passed through it.
    pub(crate) fn from_layer(error: BoxError) -> Self {
        match error.downcast::<Opaque>() {
            Ok(own) => own.0,
            Err(foreign) => Self::retry(foreign),
        }
    }
}

impl From<Rejection> for HandlerError {
    fn from(rejection: Rejection) -> Self {
        Self::new(
            Disposition::Reject,
            FailureKind::Rejection,
            rejection.into_error(),
        )
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl From<HandlerError> for BoxError {
    fn from(error: HandlerError) -> Self {
        Box::new(Opaque(error))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("disposition", &self.disposition)
            .field("kind", &self.kind)
            .field("source", &self.source)
            .finish()
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// A [`HandlerError`] on its way through layers that only know boxed errors.
#[derive(Debug)]
struct Opaque(HandlerError);

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Opaque {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.source()
    }
}

/// The source of errors that are one.
#[derive(Clone, Debug)]
struct Shared(Arc<dyn StdError + Send + Sync>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_retries() {
        fn parse() -> Result<u32, HandlerError> {
            Ok("x".parse::<u32>()?)
        }
        let error = parse().expect_err("no number");
        assert_eq!(error.disposition(), Disposition::Retry);
    }

    #[test]
    fn an_error_keeps_its_disposition_through_a_layer() {
        let boxed = BoxError::from(HandlerError::reject("no"));
        assert_eq!(boxed.to_string(), "no");
        assert_eq!(
            HandlerError::from_layer(boxed).disposition(),
            Disposition::Reject
        );
    }
}
