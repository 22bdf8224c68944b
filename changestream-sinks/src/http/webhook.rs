//! Signatures, as the specification *Standard Webhooks* has them.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use changestream_core::Error;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{HeaderMap, HeaderName};
use sha2::Sha256;

pub(super) const ID: HeaderName = HeaderName::from_static("webhook-id");
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

const PREFIX: &str = "whsec_";
const VERSION: &str = "v1,";

/// A key that sender and receiver share, with which [`HttpSink::sign_with`](crate::HttpSink::sign_with) signs and a
/// receiver verifies: `whsec_` and 24 to 64 random bytes in base64 (specification *Standard Webhooks*, "Signature
/// scheme"). `Debug` does not show it.
///
/// # Example
///
/// In a receiver, with the headers and the body of a request as they came:
///
/// ```
/// use changestream_sinks::{WebhookError, WebhookKey};
/// use reqwest::header::HeaderMap;
///
/// fn is_from_the_shop(keys: &[WebhookKey], headers: &HeaderMap, body: &[u8]) -> bool {
///     keys.iter().any(|key| key.verify(headers, body).is_ok())
/// }
///
/// let key = WebhookKey::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?;
/// assert!(!is_from_the_shop(&[key], &HeaderMap::new(), b"{}"));
/// # Ok::<(), changestream_core::Error>(())
/// ```
#[derive(Clone)]
pub struct WebhookKey(Hmac<Sha256>);

/// Why a request is not what the holder of the key sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// One of the three headers is not there, or is not text.
    #[error("the header `{0}` is missing or is not text")]
    Header(&'static str),
    /// `webhook-timestamp` is no time in seconds, or is further from now than the receiver allows.
    #[error("the request was not signed within the last few minutes")]
    Timestamp,
    /// No signature is that of this key for this body, id and time.
    #[error("no signature of the request is that of the key")]
    Signature,
}

impl WebhookKey {
    /// How far the sender's clock may be from the receiver's, and how old a request may be.
    pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

    /// A key from its text.
    ///
    /// # Errors
    ///
    /// A configuration error, which does not show the text, when it is not `whsec_` and 24 to 64 bytes in base64.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        let wrong = || {
            Error::configuration(
                "a key of webhooks is not `whsec_` and 24 to 64 bytes in base64; make one with \
                 `echo whsec_$(openssl rand -base64 32)`",
            )
        };
        let encoded = text.as_ref().strip_prefix(PREFIX).ok_or_else(wrong)?;
        let key = BASE64.decode(encoded).ok();
        let key = key.filter(|key| (24..=64).contains(&key.len()));
        let key = Hmac::new_from_slice(&key.ok_or_else(wrong)?);
        key.map(Self).map_err(|_too_long| wrong())
    }

    /// The signature of a body that is sent with this id at this time, in seconds since 1970.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signature = self.mac(id, &timestamp.to_string(), body).finalize();
        format!("{VERSION}{}", BASE64.encode(signature.into_bytes()))
    }

    /// That a request with these headers and this body, byte for byte as it came, was signed with this key, at most
    /// [`TOLERANCE`](Self::TOLERANCE) ago.
    ///
    /// A request that is sent twice passes twice: a receiver tells repeats by `webhook-id`.
    ///
    /// # Errors
    ///
    /// When it was not.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), WebhookError> {
        let header = |name: HeaderName, text: &'static str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or(WebhookError::Header(text))
        };
        let id = header(ID, "webhook-id")?;
        let timestamp = header(TIMESTAMP, "webhook-timestamp")?;
        let signatures = header(SIGNATURE, "webhook-signature")?;

        let signed_at = timestamp.parse().map_err(|_| WebhookError::Timestamp)?;
        if now().abs_diff(signed_at) > Self::TOLERANCE.as_secs() {
            return Err(WebhookError::Timestamp);
        }
        let mac = self.mac(id, timestamp, body);
        let mut signatures = signatures
            .split(' ')
            .filter_map(|signature| BASE64.decode(signature.strip_prefix(VERSION)?).ok());
        // In a time that does not tell how much of it is right.
        match signatures.any(|signature| mac.clone().verify_slice(&signature).is_ok()) {
            true => Ok(()),
            false => Err(WebhookError::Signature),
        }
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

/// In seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example of the specification.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let key = WebhookKey::new(KEY).expect("a key");
        assert_eq!(
            key.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_key_is_refused_without_being_shown() {
        for text in [
            "",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
        ] {
            let error = WebhookKey::new(text).expect_err(text);
            assert!(error.is_configuration());
            assert!(error.to_string().starts_with("a key of webhooks is not"));
            assert!(!error.to_string().contains("MfKQ9"));
        }
    }

    fn signed(signature: &str, timestamp: u64) -> HeaderMap {
        let text = |text: &str| text.parse().expect("a header value");
        HeaderMap::from_iter([
            (ID, text("id")),
            (TIMESTAMP, text(&timestamp.to_string())),
            (SIGNATURE, text(signature)),
        ])
    }

    #[test]
    fn what_was_signed_with_one_of_the_keys_passes_and_nothing_else() {
        let key = WebhookKey::new(KEY).expect("a key");
        let other = WebhookKey::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a key");
        let (now, body) = (now(), [0, 255, b'.']);
        let of = |key: &WebhookKey| key.sign("id", now, &body);
        let both = format!("v1a,x {} {}", of(&other), of(&key));
        assert_eq!(key.verify(&signed(&both, now), &body), Ok(()));
        assert_eq!(other.verify(&signed(&both, now), &body), Ok(()));

        let wrong = Err(WebhookError::Signature);
        assert_eq!(key.verify(&signed(&of(&other), now), &body), wrong);
        assert_eq!(key.verify(&signed(&of(&key), now), b"another"), wrong);
        assert_eq!(key.verify(&signed(&of(&key), now - 1), &body), wrong);
        assert_eq!(key.verify(&signed(&of(&key)[..12], now), &body), wrong);
        assert_eq!(key.verify(&signed("v1,", now), &body), wrong);
        for at in [now - 301, now + 330] {
            let headers = signed(&key.sign("id", at, &body), at);
            assert_eq!(key.verify(&headers, &body), Err(WebhookError::Timestamp));
        }
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut headers = signed(&of(&key), now);
            headers.remove(name);
            assert_eq!(key.verify(&headers, &body), Err(WebhookError::Header(name)));
        }
    }
}
