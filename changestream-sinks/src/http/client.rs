//! The URL and the connection.

use changestream_core::Error;

use super::guard::{self, PublicOnly};
use crate::tls;
use reqwest::{Client, ClientBuilder, Url, redirect::Policy};

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
    let sink = "an HTTP sink";
    let tls = match url.scheme() == "https" {
        true => tls::verified(sink)?,
        false => tls::trusting_none(sink)?,
    };
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
