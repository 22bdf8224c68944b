//! A user's first try: a new crate outside the workspace that holds the code of the design's contract, with a
//! real layer and a local receiver, compiles, runs, and stops when it is told to.

use std::{path::Path, time::Duration};

use changestream_testkit::MongoServer;
use tokio::{net::TcpListener, process::Command, time::timeout};

use crate::support::{TestResult, service::sends_status_changes};

/// Compiling is part of it.
const PATIENCE: Duration = Duration::from_secs(600);

const MANIFEST: &str = r#"
[package]
name = "first-try"
version = "0.1.0"
edition = "2024"

[dependencies]
changestream = { path = "CHANGESTREAM", features = ["http"] }
mongodb = { version = "3.9", default-features = false, features = ["bson-3", "compat-3-3-0", "rustls-tls"] }
serde = { version = "1", features = ["derive"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
tower = { version = "0.5", default-features = false }
tracing = { version = "0.1", default-features = false }

[workspace]
"#;

/// As the design has it, but for the URLs, and a layer to be the user's own.
const MAIN: &str = r##"
mod layer;

use changestream::prelude::*;
use layer::MyTowerLayer;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
struct Order { status: String, total: f64 }

#[derive(Debug, Serialize)]
struct StatusChanged { from: Option<String>, to: String }

#[derive(Clone)]
struct App { /* pools, clients, config */ }

/// Runs for every update of `orders` that changes `status`. Stays an ordinary async fn: call it in a unit test.
#[on_change(coll = "orders", op = "update", field = "status", to = "fulfillment")]
async fn order_status_changed(
    FullDocument(order): FullDocument<Order>,
    before: Option<PreImage<Order>>,
    State(_app): State<App>,
) -> Result<StatusChanged, HandlerError> {
    Ok(StatusChanged { from: before.map(|PreImage(o)| o.status), to: order.status })
}

#[on_change(coll = "orders", op = ["insert", "replace"])]
async fn order_stored(change: Change<Order>) -> Result<(), HandlerError> {
    tracing::info!(id = ?change.document_key(), "stored");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), changestream::Error> {
    let client = mongodb::Client::with_uri_str("mongodb://localhost:27017").await?;
    Runtime::builder(client.database("shop"))
        .name("fulfillment")                      // keys its checkpoint, lease and metrics
        .state(App {})
        .handlers(handlers![order_status_changed, order_stored])
        .sink("fulfillment", HttpSink::new("https://fulfillment.internal/orders/events")?)
        .layer(MyTowerLayer)                      // any tower layer, around every handler
        .build()?
        .run_until(shutdown_signal())
        .await
}
"##;

const LAYER: &str = r##"
use std::task::{Context, Poll};

use tower::{Layer, Service};

pub struct MyTowerLayer;

#[derive(Clone)]
pub struct Passed<S>(S);

impl<S> Layer<S> for MyTowerLayer {
    type Service = Passed<S>;

    fn layer(&self, inner: S) -> Passed<S> {
        Passed(inner)
    }
}

impl<S: Service<R>, R> Service<R> for Passed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.call(request)
    }
}
"##;

#[tokio::test]
async fn the_contract_compiles_and_runs_outside_the_workspace() -> TestResult {
    let server = MongoServer::start().await?;
    let receiver = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/orders/events", receiver.local_addr()?);
    let folder = tempfile::tempdir()?;
    write_crate(folder.path(), &server.uri(), &url)?;

    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet"])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", target_dir())
        .env_remove("RUSTFLAGS")
        .kill_on_drop(true)
        .status();
    assert!(
        timeout(PATIENCE, build).await??.success(),
        "it does not compile"
    );

    let service = Command::new(target_dir().join("debug/first-try"));
    sends_status_changes(service, &server, &receiver).await
}

fn write_crate(folder: &Path, mongodb_uri: &str, receiver_url: &str) -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = MANIFEST.replace("CHANGESTREAM", &root.display().to_string());
    let main = MAIN
        .replace("mongodb://localhost:27017", mongodb_uri)
        .replace("https://fulfillment.internal/orders/events", receiver_url);
    std::fs::create_dir(folder.join("src"))?;
    std::fs::write(folder.join("Cargo.toml"), manifest)?;
    std::fs::write(folder.join("src/main.rs"), main)?;
    std::fs::write(folder.join("src/layer.rs"), LAYER)?;
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(())
}

fn target_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("first-try")
}
