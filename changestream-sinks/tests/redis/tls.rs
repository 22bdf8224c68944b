//! Encrypted connections.

use std::{env, fs, path::Path, process::Command};

use changestream_core::Disposition;
use changestream_sinks::RedisSink;
use changestream_testkit::RedisServer;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::CryptoProvider;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    Redis,
    cluster::{self, Cluster},
    of, send, service,
};

const PORT: &str = "CHANGESTREAM_TEST_TLS_PORT";

/// A certificate for this host that nobody vouches for.
fn certify(dir: &Path, host: &str) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([host.to_owned()]).unwrap();
    fs::write(dir.join("cert"), cert.pem()).unwrap();
    fs::write(dir.join("key"), signing_key.serialize_pem()).unwrap();
}

/// A server with that certificate, and the port where it shows it.
async fn start(dir: &Path, options: &[(&str, &str)]) -> (RedisServer, u16) {
    // The nodes of a cluster listen on the one that is 10,000 higher as well.
    let port = loop {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        if port <= u16::MAX - 10_000 {
            break port.to_string();
        }
    };
    let (cert, key) = (dir.join("cert"), dir.join("key"));
    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let encrypted = [
        ("--tls-port", &*port),
        ("--tls-cert-file", &cert),
        ("--tls-key-file", &key),
        ("--tls-auth-clients", "no"),
    ];
    let server = encrypted
        .iter()
        .chain(options)
        .fold(RedisServer::builder(), |server, (name, value)| {
            server.arg(*name).arg(*value)
        });
    (server.start().await.unwrap(), port.parse().unwrap())
}

/// Runs a test that is a part of another where the certificate is trusted: that is read from the environment, which a process
/// does not change of itself.
fn run_trusting(dir: &Path, part: &str, port: u16) {
    let delivering = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("tls::{part}"), "--ignored"])
        .env("SSL_CERT_FILE", dir.join("cert"))
        .env(PORT, port.to_string())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&delivering.stdout);
    assert!(delivering.status.success(), "{output}");
    assert!(output.contains("1 passed"), "{output}");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let dir = TempDir::new().unwrap();
    certify(dir.path(), "localhost");
    let (_server, port) = start(dir.path(), &[]).await;
    let sink = RedisSink::new(format!("rediss://localhost:{port}")).unwrap();
    let error = send(&service(sink.set("s").unwrap()), of(1, "m"))
        .await
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry);
    assert_eq!(
        error.to_string(),
        format!("no connection to `localhost:{port}`: invalid peer certificate: UnknownIssuer")
    );
    assert!(
        CryptoProvider::get_default().is_none(),
        "the process's provider was set"
    );
}

#[tokio::test]
async fn a_certificate_that_the_system_trusts_is_taken() {
    let dir = TempDir::new().unwrap();
    certify(dir.path(), "localhost");
    let (_server, port) = start(dir.path(), &[]).await;
    run_trusting(dir.path(), "delivers_as_the_environment_says", port);
}

#[tokio::test]
#[ignore = "a part of the test above"]
async fn delivers_as_the_environment_says() {
    let port = env::var(PORT).unwrap();
    let sink = RedisSink::new(format!("rediss://localhost:{port}")).unwrap();
    send(&service(sink.set("s").unwrap()), of(1, "m"))
        .await
        .unwrap();
    let other = RedisSink::new(format!("rediss://127.0.0.1:{port}")).unwrap();
    let error = send(&service(other.set("s").unwrap()), of(1, "m"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("invalid peer certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn every_node_of_a_cluster_is_sent_what_it_has() {
    let dir = TempDir::new().unwrap();
    certify(dir.path(), "127.0.0.1");
    let cert = dir.path().join("cert");
    let cert = cert.to_string_lossy();
    let encrypted = [("--tls-cluster", "yes"), ("--tls-ca-cert-file", &*cert)];
    let options = [&cluster::OPTIONS[..], &encrypted].concat();
    let (mut nodes, mut ports) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (server, port) = start(dir.path(), &options).await;
        nodes.push(Redis::of(server).await);
        ports.push(port);
    }
    let cluster = Cluster::of(nodes, ports[0]).await;
    run_trusting(dir.path(), "delivers_a_hundred", ports[0]);
    let sizes = cluster.size().await;
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
}

#[tokio::test]
#[ignore = "a part of the test above"]
async fn delivers_a_hundred() {
    let port = env::var(PORT).unwrap();
    let sink = RedisSink::new(format!("rediss://127.0.0.1:{port}")).unwrap();
    let sink = service(sink.set("s:{document_key._id}").unwrap());
    for id in 0..100 {
        send(&sink, of(id, "m")).await.unwrap();
    }
}
