//! Encrypted connections.

use std::{env, fs, path::Path, process::Command};

use changestream_core::Disposition;
use changestream_sinks::RedisSink;
use changestream_testkit::RedisServer;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::CryptoProvider;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{of, send, service};

const PORT: &str = "CHANGESTREAM_TEST_TLS_PORT";

/// A server whose certificate nobody vouches for, and the port where it shows it.
async fn start(dir: &Path) -> (RedisServer, u16) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (dir.join("cert"), dir.join("key"));
    fs::write(&cert_file, cert.pem()).unwrap();
    fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut server = RedisServer::builder();
    for (name, value) in [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", cert_file.display().to_string()),
        ("--tls-key-file", key_file.display().to_string()),
        ("--tls-auth-clients", "no".to_owned()),
    ] {
        server = server.arg(name).arg(value);
    }
    (server.start().await.unwrap(), port)
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let dir = TempDir::new().unwrap();
    let (_server, port) = start(dir.path()).await;
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
    let (_server, port) = start(dir.path()).await;
    // What is trusted is read from the environment, which a process does not change of itself.
    let delivering = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "tls::delivers_as_the_environment_says",
            "--ignored",
        ])
        .env("SSL_CERT_FILE", dir.path().join("cert"))
        .env(PORT, port.to_string())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&delivering.stdout);
    assert!(delivering.status.success(), "{output}");
    assert!(output.contains("1 passed"), "{output}");
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
