//! From a URL to its sink.

use changestream_core::{Error, SinkSpec};

use super::file::HttpSettings;

/// The sink of a URL, by its scheme. Its text appears in no error: it may hold a secret.
pub(super) fn sink(url: &str, http: HttpSettings) -> Result<SinkSpec, Error> {
    let (scheme, _) = url.split_once("://").ok_or_else(|| {
        Error::configuration("its URL has no scheme; write it whole, as `https://host/path`")
    })?;
    let is_http = matches!(scheme, "http" | "https");
    if !is_http && !http.is_empty() {
        return Err(Error::configuration(format!(
            "`headers`, `source`, `sign-with` and `public-only` are of HTTP sinks, and its URL begins with `{scheme}://`"
        )));
    }
    match scheme {
        #[cfg(feature = "http")]
        "http" | "https" => http_sink(url, http),
        #[cfg(not(feature = "http"))]
        "http" | "https" => Err(missing("http")),
        scheme => Err(Error::configuration(format!(
            "its URL begins with `{scheme}://`, which names no sink; there are `http`, `https`"
        ))),
    }
}

#[cfg(not(feature = "http"))]
fn missing(feature: &str) -> Error {
    Error::configuration(format!("its URL needs the feature `{feature}`; enable it"))
}

#[cfg(feature = "http")]
fn http_sink(url: &str, settings: HttpSettings) -> Result<SinkSpec, Error> {
    let mut sink = crate::HttpSink::new(url)?;
    for (name, value) in settings.headers {
        sink = sink.header(name, value)?;
    }
    if let Some(source) = settings.source {
        sink = sink.source(source)?;
    }
    for key in settings.sign_with {
        sink = sink.sign_with(crate::WebhookKey::new(key)?);
    }
    if settings.public_only {
        sink = sink.public_only()?;
    }
    Ok(sink.into())
}
