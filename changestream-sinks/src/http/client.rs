//! The URL and the connection.

use std::sync::Arc;

use changestream_core::Error;

use super::guard::{self, PublicOnly};
use reqwest::{Client, ClientBuilder, Url, redirect::Policy};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;

const USER_AGENT: &str = concat!("changestream/", env!("CARGO_PKG_VERSION"));

/// The URL, checked. Its text appears in no error: it may hold a secret.
pub(super) fn parse(text: &str) -> Result<Url, Error> {
    let wrong = |problem: &str| Error::configuration(format!("the URL of an HTTP sink {problem}"));
    let lower = text.trim_start().to_ascii_lowercase();
    if !(lower.starts_with("http://") || lower.starts_with("https://")) {
        return Err(wrong(
            "does not start with `http://` or `https://`; write it whole",
        ));
    }
    let url = Url::parse(text).map_err(|error| wrong(&format!("is not valid: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "carries a user name or password; send them with `.header(\"Authorization\", ..)`",
        ));
    }
    Ok(url)
}

pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

pub(super) fn build(url: &Url) -> Result<Client, Error> {
    finish(builder(url)?)
}

/// The same for a URL that comes from outside.
pub(super) fn build_guarded(url: &Url) -> Result<Client, Error> {
    if guard::names_a_private_address(url) {
        return Err(Error::configuration(
            "the URL of an HTTP sink that is for public addresses only names another one",
        ));
    }
    finish(builder(url)?.dns_resolver(PublicOnly::resolver()))
}

fn builder(url: &Url) -> Result<ClientBuilder, Error> {
    let tls = tls(url.scheme() == "https")?;
    Ok(Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .no_proxy()
        .user_agent(USER_AGENT))
}

fn finish(builder: ClientBuilder) -> Result<Client, Error> {
    builder.build().map_err(|error| {
        Error::configuration("an HTTP sink cannot set up its connections")
            .caused_by(error.without_url())
    })
}

/// TLS by ring, whichever provider the process has installed, and the operating system's roots.
///
/// A plain connection trusts nothing instead, so that it works where there are no roots to load.
fn tls(encrypted: bool) -> Result<ClientConfig, Error> {
    let failed = |error: rustls::Error| {
        let message = "the system's trusted certificates cannot be loaded for an HTTP sink; install \
                       them (`ca-certificates`), or name them in `SSL_CERT_FILE`";
        Error::configuration(message).caused_by(error)
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match encrypted {
        true => builder.with_platform_verifier().map_err(failed)?,
        false => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}
