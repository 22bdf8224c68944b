//! A local HTTP server that plays all the services, one path for each.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::ledger::{Arrival, Ledger};

/// The service that is not always there at first.
pub(crate) const FLAKY: &str = "payment-service";
/// It refuses one message of so many, once.
const FLAKY_EVERY: usize = 4;

#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    server: JoinHandle<io::Result<()>>,
}

#[derive(Debug)]
struct Services {
    ledger: Arc<Ledger>,
    source: String,
    broken: Option<String>,
    asked: Mutex<HashSet<String>>,
}

impl Receiver {
    /// Starts on a free port. Messages must say that they come from `source`; `broken` refuses all of them.
    pub(crate) async fn start(
        ledger: Arc<Ledger>,
        source: &str,
        broken: Option<String>,
    ) -> io::Result<Self> {
        let services = Services {
            ledger,
            source: source.to_owned(),
            broken,
            asked: Mutex::default(),
        };
        let app = Router::new()
            .route("/{service}/events", post(receive))
            .with_state(Arc::new(services));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self {
            address: listener.local_addr()?,
            server: tokio::spawn(async move { axum::serve(listener, app).await }),
        })
    }

    pub(crate) fn url(&self, service: &str) -> String {
        format!("http://{}/{service}/events", self.address)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State(services): State<Arc<Services>>,
    Path(service): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if services.broken.as_ref() == Some(&service) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let arrival = match services.read(&service, &headers, &body) {
        Ok(arrival) => arrival,
        Err(problem) => {
            services.ledger.problem(problem);
            return StatusCode::BAD_REQUEST;
        }
    };
    if arrival.service == FLAKY && services.refuses(&arrival.key) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    services.ledger.arrived(arrival);
    StatusCode::ACCEPTED
}

impl Services {
    fn read(&self, service: &str, headers: &HeaderMap, body: &[u8]) -> Result<Arrival, String> {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value
                .map(str::to_owned)
                .ok_or_else(|| format!("{service} got a message without {name}"))
        };
        let event_id = header("X-Event-ID")?;
        let key = header("Idempotency-Key")?;
        let source = header("X-Event-Source")?;
        let correlation = header("X-Correlation-ID")?;
        if source != self.source {
            return Err(format!("{service} got a message from {source}"));
        }
        Arrival::new(service, &key, &event_id, Some(&correlation), body)
    }

    /// Every so many new messages, one is refused at its first attempt.
    fn refuses(&self, key: &str) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(key.to_owned()) && asked.len().is_multiple_of(FLAKY_EVERY)
    }
}
