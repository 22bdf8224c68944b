use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request},
    http::{HeaderMap, Response},
    response::IntoResponse,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// What a receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) peer: SocketAddr,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().expect(name).to_str().expect("text");
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }
}

/// An HTTP server on a free port, stopped when it is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    server: JoinHandle<()>,
}

/// How a receiver answers: from the number of requests before this one.
type Answer = dyn Fn(usize) -> Response<Body> + Send + Sync;

impl Receiver {
    pub(crate) async fn start<R, F>(answer: F) -> Self
    where
        R: IntoResponse,
        F: Fn(usize) -> R + Send + Sync + 'static,
    {
        Self::start_slow(Duration::ZERO, answer).await
    }

    pub(crate) async fn start_slow<R, F>(delay: Duration, answer: F) -> Self
    where
        R: IntoResponse,
        F: Fn(usize) -> R + Send + Sync + 'static,
    {
        let answer: Arc<Answer> = Arc::new(move |index| answer(index).into_response());
        let received = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&received);
        let handle = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| async move {
            let received = receive(peer, request).await;
            let index = {
                let mut requests = requests.lock().expect("not poisoned");
                requests.push(received);
                requests.len() - 1
            };
            tokio::time::sleep(delay).await;
            answer(index)
        };
        let app = Router::new()
            .fallback(handle)
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        Self {
            address: listener.local_addr().expect("an address"),
            received,
            server: tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") }),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn single(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1);
        received.remove(0)
    }
}

async fn receive(peer: SocketAddr, request: Request) -> Received {
    let (head, body) = request.into_parts();
    Received {
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        headers: head.headers,
        body: axum::body::to_bytes(body, usize::MAX)
            .await
            .expect("a body"),
        peer,
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}
