//! The URL, and a stream to the server that it names.

use std::{fmt, io, sync::Arc};

use ::redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use changestream_core::Error;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::tls;

/// A server, and as whom it is logged in to.
pub(super) struct Server {
    address: Address,
    tls: Option<TlsConnector>,
    login: RedisConnectionInfo,
    /// Host and port: all that errors show of the URL.
    pub(super) name: Arc<str>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Server {
    /// That of a URL, whose text appears in no error: it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong =
            |problem: &str| Error::configuration(format!("the URL of a Redis sink {problem}"));
        let (scheme, rest) = text.trim().split_once("://").unwrap_or_default();
        let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
            "redis" => false,
            "rediss" => true,
            _ => {
                return Err(wrong(
                    "does not start with `redis://` or `rediss://`; write it whole",
                ));
            }
        };
        if rest.contains(['?', '#']) {
            return Err(wrong(
                "has a `?` or `#`; remove what they begin, or write them as `%3F` and `%23` in a password",
            ));
        }
        // The client library knows `rediss` only where it does the encryption itself.
        let url = ::redis::parse_redis_url(&format!("redis://{rest}")).ok_or_else(|| {
            wrong("is not valid; write `redis://user:password@host:port/database`")
        })?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("names no host"));
        }
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && database.parse::<u32>().is_err() {
            return Err(wrong("ends in what is no number of a database; write `/0`"));
        }
        let info = url
            .into_connection_info()
            .map_err(|error| wrong(&format!("is not valid: {error}")))?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err(wrong("names no host"));
        };
        let address = Address {
            host: host.clone(),
            port: *port,
        };
        Ok(Self {
            tls: is_encrypted.then(|| encryption(host)).transpose()?,
            name: address.to_string().into(),
            login: info.redis_settings().clone(),
            address,
        })
    }

    /// Another node of its cluster.
    pub(super) fn at(&self, address: Address) -> Self {
        Self {
            tls: self.tls.clone(),
            login: self.login.clone(),
            name: address.to_string().into(),
            address,
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.address.host
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let Address { host, port } = &self.address;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

impl Address {
    /// That which the node at `asked` knows another one by: `?` where it knows none, and nothing where that is at its own host.
    pub(super) fn of_node(host: &str, asked: &str, port: u16) -> Option<Self> {
        let host = match host {
            "?" => return None,
            "" => asked,
            host => host,
        };
        let host = host.to_owned();
        Some(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// The client library would take the provider of the process, and fail where there is none or the choice of two.
fn encryption(host: &str) -> Result<TlsConnector, Error> {
    ServerName::try_from(host).map_err(|error| {
        let message = "the host of a Redis sink is no name that a certificate could be for";
        Error::configuration(message).caused_by(error)
    })?;
    Ok(TlsConnector::from(Arc::new(tls::verified("a Redis sink")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_another_one_does_not_name_is_at_the_host_of_that_or_unknown() {
        let of = |host| Address::of_node(host, "asked", 7000).map(|address| address.to_string());
        assert_eq!(of("10.0.0.3"), Some("10.0.0.3:7000".to_owned()));
        assert_eq!(of("::1"), Some("[::1]:7000".to_owned()));
        assert_eq!(of(""), Some("asked:7000".to_owned()));
        assert_eq!(of("?"), None);
    }
}
