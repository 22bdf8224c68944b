//! What an answer means.

use std::{
    error::Error as _,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use changestream_core::HandlerError;
use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use tokio::time::timeout;

use super::guard::NotPublic;

/// The longest pause that a receiver can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How much of an answer's body is read, and for how long, so that its connection can be used again.
const MAX_BODY: usize = 16 * 1024;
const MAX_BODY_TIME: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct SendError {
    message: String,
    source: reqwest::Error,
}

/// Whether the message is delivered; `is_gone` where the receiver wants no other one.
pub(super) async fn judge(
    host: &str,
    is_gone: &AtomicBool,
    answer: Result<Response, reqwest::Error>,
) -> Result<(), HandlerError> {
    let response = answer.map_err(|error| not_sent(host, error))?;
    let status = response.status();
    let result = outcome(host, status, response.headers());
    if status == StatusCode::GONE && !is_gone.swap(true, Relaxed) {
        tracing::error!(
            host,
            "the receiver answered 410 Gone: nothing is sent to it any more"
        );
    }
    let _ = timeout(MAX_BODY_TIME, drain(response)).await;
    result
}

fn not_sent(host: &str, error: reqwest::Error) -> HandlerError {
    if was_guarded(&error) {
        return HandlerError::reject(format!(
            "`{host}` leads to no public address; nothing was sent"
        ));
    }
    let is_connect = error.is_connect();
    let failed = |message| SendError {
        message,
        source: error.without_url(),
    };
    match is_connect {
        true => HandlerError::unavailable(failed(format!("no connection to `{host}`"))),
        false => HandlerError::retry(failed(format!("no answer from `{host}`"))),
    }
}

fn was_guarded(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NotPublic>() {
            return true;
        }
        cause = error.source();
    }
    false
}

pub(super) fn gone(host: &str) -> HandlerError {
    HandlerError::reject(format!(
        "`{host}` answered 410 Gone; nothing is sent to it until this process starts anew"
    ))
}

fn outcome(host: &str, status: StatusCode, headers: &HeaderMap) -> Result<(), HandlerError> {
    let message = format!("`{host}` answered {status}");
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Err(match pause(headers, SystemTime::now()) {
                Some(pause) => HandlerError::retry_after(pause, message),
                None => HandlerError::retry(message),
            })
        }
        StatusCode::GONE => Err(gone(host)),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Err(HandlerError::retry(message)),
        status if status.is_redirection() => Err(HandlerError::reject(format!(
            "{message}; redirects are not followed: give the sink the final URL"
        ))),
        status if status.is_client_error() => Err(HandlerError::reject(message)),
        _ => Err(HandlerError::retry(message)),
    }
}

/// What `Retry-After` asks for, if that is still ahead.
fn pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .ok()?,
    };
    (!pause.is_zero()).then(|| pause.min(MAX_PAUSE))
}

async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > MAX_BODY {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause_of(text: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header value"))]);
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").expect("a date");
        pause(&headers, now)
    }

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        assert_eq!(pause_of("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            pause_of("Wed, 21 Oct 2026 07:28:09 GMT"),
            Some(Duration::from_secs(9))
        );
    }

    #[test]
    fn a_pause_is_bounded() {
        assert_eq!(pause_of("86400"), Some(MAX_PAUSE));
        assert_eq!(pause_of("Wed, 21 Oct 2037 07:28:00 GMT"), Some(MAX_PAUSE));
    }

    #[test]
    fn a_pause_that_is_over_or_unreadable_is_none() {
        for text in [
            "0",
            "-1",
            "soon",
            "",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "99999999999999999999999",
        ] {
            assert_eq!(pause_of(text), None, "{text}");
        }
    }
}
