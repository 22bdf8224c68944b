//! As much of S3 as a broker needs to keep its data outside of its process.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{Error, Result};

mod objects;
mod request;

use objects::Objects;
use request::Request;

/// The name of the only bucket.
pub(crate) const BUCKET: &str = "bucket";

/// Objects in memory behind the API of S3, on a free port; ends on drop.
#[derive(Debug)]
pub(crate) struct ObjectStore {
    addr: SocketAddr,
    _acceptor: JoinSet<()>,
}

impl ObjectStore {
    pub(crate) async fn start() -> Result<Self> {
        let failed = || Error::io("start an object store");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(failed())?;
        let addr = listener.local_addr().map_err(failed())?;
        let mut acceptor = JoinSet::new();
        acceptor.spawn(async move {
            let objects = Arc::default();
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(connection, Arc::clone(&objects)));
            }
        });
        Ok(Self {
            addr,
            _acceptor: acceptor,
        })
    }

    /// The environment in which clients of S3 find it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://{}", self.addr)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("NO_PROXY", self.addr.ip().to_string()),
            ("AWS_REGION", "local".to_owned()),
            ("AWS_ACCESS_KEY_ID", "any".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "any".to_owned()),
        ]
    }
}

async fn serve(connection: TcpStream, objects: Arc<Mutex<Objects>>) -> io::Result<()> {
    let mut connection = BufStream::new(connection);
    while let Some(request) = Request::read(&mut connection).await? {
        let answer = {
            let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
            objects.answer(&request)
        };
        let head = format!(
            "HTTP/1.1 {} \r\nContent-Length: {}\r\nETag: \"{}\"\r\n\
             Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
            answer.status,
            answer.body.len(),
            answer.version,
        );
        connection.write_all(head.as_bytes()).await?;
        if request.method != "HEAD" {
            connection.write_all(&answer.body).await?;
        }
        connection.flush().await?;
    }
    Ok(())
}
