use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt};
use tower::retry::Policy;
use tracing::Span;

use super::{Meter, StackRequest};
use crate::handler::{Attempt, Disposition, HandlerError};

/// Exponential backoff with full jitter: each wait is drawn evenly between nothing and a ceiling that
/// starts at `first` and doubles up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// A backoff whose ceiling starts at `first` and ends at `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The ceiling of the wait after `failures` failures in a row; the first failure is 1.
    pub(crate) fn ceiling(self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.max)
    }

    /// A wait after `failures` failures in a row.
    pub(crate) fn wait(self, failures: u32) -> Duration {
        self.ceiling(failures).mul_f64(fastrand::f64())
    }
}

/// Retries what may be retried, as often as the policy says.
#[derive(Clone, Debug)]
pub(crate) struct RetryPolicy(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    retries: u32,
    backoff: Backoff,
    meter: Arc<Meter>,
}

impl RetryPolicy {
    pub(crate) fn new(retries: u32, backoff: Backoff, meter: Arc<Meter>) -> Self {
        Self(Arc::new(Rules {
            retries,
            backoff,
            meter,
        }))
    }

    /// A wait after so many attempts.
    pub(super) fn backoff(&self, attempt: Attempt) -> Duration {
        self.0.backoff.wait(attempt.0)
    }

    /// How long to wait for the next attempt after this one's error, `backoff` unless that says otherwise; `None`
    /// where there is none.
    pub(super) fn pause(
        &self,
        attempt: Attempt,
        error: &HandlerError,
        backoff: Duration,
    ) -> Option<Duration> {
        match error.disposition() {
            _ if attempt.0 > self.0.retries => None,
            Disposition::Retry => Some(backoff),
            Disposition::RetryAfter(pause) => Some(pause),
            Disposition::Reject => None,
        }
    }
}

impl<R: StackRequest, T> Policy<R, T, HandlerError> for RetryPolicy {
    type Future = BoxFuture<'static, ()>;

    fn retry(
        &mut self,
        request: &mut R,
        result: &mut Result<T, HandlerError>,
    ) -> Option<Self::Future> {
        let error = result.as_mut().err()?;
        let attempt = request.attempt();
        error.set_attempts(attempt.0);
        self.0.meter.failed(error.kind());
        let wait = self.pause(attempt, error, self.backoff(attempt))?;
        self.0.meter.retried();
        tracing::debug!(attempt = attempt.0, kind = error.kind().as_str(), ?wait, %error, "retrying");
        request.set_attempt(attempt.next());
        Span::current().record("attempt", request.attempt().0);
        crate::crash_point!("retry.waiting");
        Some(request.turn().clone().rest(wait).boxed())
    }

    fn clone_request(&mut self, request: &R) -> Option<R> {
        Some(request.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_maximum() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let ceilings = [1, 2, 3, 4, u32::MAX].map(|failures| backoff.ceiling(failures).as_secs());
        assert_eq!(ceilings, [1, 2, 4, 5, 5]);
    }

    #[test]
    fn jitter_is_full() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        let waits: Vec<_> = (0..1000).map(|_| backoff.wait(1)).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)));
        assert!(waits.iter().any(|wait| *wait < Duration::from_millis(200)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(800)));
    }
}
