//! The URL, and who logs in.

use std::path::PathBuf;

use async_nats::ServerAddr;
use changestream_core::Error;
use percent_encoding::percent_decode_str;

/// The servers of one cluster, without credentials: what the client library logs may hold them.
#[derive(Clone)]
pub(super) struct Servers {
    pub(super) addresses: Vec<ServerAddr>,
    /// All that errors show of the URL.
    pub(super) hosts: String,
    pub(super) tls_required: bool,
}

#[derive(Clone, PartialEq)]
pub(super) enum Login {
    Anonymous,
    Token(String),
    User { name: String, password: String },
    CredentialsFile(PathBuf),
}

/// The servers of a URL, or of several that commas part. Its text appears in no error: it may hold a secret.
pub(super) fn parse(text: &str) -> Result<(Servers, Login), Error> {
    let mut servers = Servers {
        addresses: Vec::new(),
        hosts: String::new(),
        tls_required: false,
    };
    let mut login = Login::Anonymous;
    for text in text.split(',').map(str::trim) {
        let lower = text.to_ascii_lowercase();
        if !(lower.starts_with("nats://") || lower.starts_with("tls://")) {
            return Err(wrong(
                "does not start with `nats://` or `tls://`; write it whole",
            ));
        }
        let address: ServerAddr = text
            .parse()
            .map_err(|error| wrong("is not valid").caused_by(error))?;
        let of_this = login_of(&address)?;
        if login != Login::Anonymous && of_this != Login::Anonymous && login != of_this {
            return Err(wrong(
                "carries several logins; all servers take the same: write it once, or give it with `.user(..)` or \
                 `.token(..)`",
            ));
        }
        if login == Login::Anonymous {
            login = of_this;
        }
        servers.tls_required |= address.tls_required();
        let (host, address) = without_login(address)?;
        if !servers.hosts.is_empty() {
            servers.hosts.push_str(", ");
        }
        servers.hosts.push_str(&host);
        servers.addresses.push(address);
    }
    Ok((servers, login))
}

fn wrong(problem: &str) -> Error {
    Error::configuration(format!("the URL of a NATS sink {problem}"))
}

/// A name without a password is a token.
fn login_of(address: &ServerAddr) -> Result<Login, Error> {
    let decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(wrong("carries a login that is no text")),
    };
    match (address.username(), address.password()) {
        (None, None) => Ok(Login::Anonymous),
        (None, Some(_)) => Err(wrong("carries a password without a user name")),
        (Some(token), None) => decoded(token).map(Login::Token),
        (Some(name), Some(password)) => Ok(Login::User {
            name: decoded(name)?,
            password: decoded(password)?,
        }),
    }
}

fn without_login(address: ServerAddr) -> Result<(String, ServerAddr), Error> {
    if address.host().is_empty() {
        return Err(wrong("names no host"));
    }
    let mut url = address.into_inner();
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(
            "goes on after host and port; the subject is an argument of its own",
        ));
    }
    let stripped = url.set_username("").and(url.set_password(None));
    stripped.map_err(|()| wrong("is not valid"))?;
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let address = ServerAddr::from_url(url);
    let address = address.map_err(|error| wrong("is not valid").caused_by(error))?;
    Ok((host, address))
}
