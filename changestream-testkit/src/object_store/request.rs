use std::{collections::BTreeMap, io};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufStream},
    net::TcpStream,
};

use super::BUCKET;

/// A request of HTTP/1.1.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) key: String,
    pub(super) query: BTreeMap<String, String>,
    /// By their names in small letters.
    headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Reads the next one, if there is one.
    pub(super) async fn read(connection: &mut BufStream<TcpStream>) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').strip_prefix(BUCKET);
        let mut request = Self {
            method,
            key: decoded(key.unwrap_or_default().trim_start_matches('/')),
            query: query.split('&').map(pair).collect(),
            ..Self::default()
        };
        loop {
            let mut line = String::new();
            connection.read_line(&mut line).await?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            let name = name.to_ascii_lowercase();
            request.headers.insert(name, value.trim().to_owned());
        }
        let length = request.headers.get("content-length");
        let length = length.and_then(|l| l.parse().ok()).unwrap_or_default();
        request.body.resize(length, 0);
        connection.read_exact(&mut request.body).await?;
        Ok(Some(request))
    }

    /// The version that the object must have, or not have.
    pub(super) fn condition(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.trim_matches('"'))
    }
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), decoded(value))
}

/// Reads `%2F` and the like.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(code, 16));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
