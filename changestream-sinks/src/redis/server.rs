//! The URL, and a stream to the server that it names.

use std::{io, sync::Arc};

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
    host: String,
    port: u16,
    tls: Option<Tls>,
    login: RedisConnectionInfo,
    /// Host and port: all that errors show of the URL.
    pub(super) name: Arc<str>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
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
        Ok(Self {
            tls: is_encrypted.then(|| Tls::new(host)).transpose()?,
            name: match host.contains(':') {
                true => format!("[{host}]:{port}").into(),
                false => format!("{host}:{port}").into(),
            },
            host: host.clone(),
            port: *port,
            login: info.redis_settings().clone(),
        })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some(tls) => Box::new(tls.connector.connect(tls.name.clone(), stream).await?),
            None => Box::new(stream),
        })
    }
}

impl Tls {
    /// The client library would take the provider of the process, and fail where there is none or the choice of two.
    fn new(host: &str) -> Result<Self, Error> {
        let config = tls::verified("a Redis sink")?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            let message = "the host of a Redis sink is no name that a certificate could be for";
            Error::configuration(message).caused_by(error)
        })?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }
}
