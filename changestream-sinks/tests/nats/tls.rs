//! Encrypted connections.

use changestream_core::{Disposition, FailureKind, testing::delivery};
use changestream_sinks::NatsSink;
use changestream_testkit::NatsServer;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::CryptoProvider;

use crate::{chain, send, service, text};

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let server = NatsServer::builder()
        .arg("--tls")
        .arg(format!("--tlscert={}", certificate.display()))
        .arg(format!("--tlskey={}", key.display()));
    let server = server.start().await.unwrap();
    // The server asks for encryption where the URL does not.
    for scheme in ["tls", "nats"] {
        let url = format!("{scheme}://s3cret@{}", server.addr());
        let sink = service(NatsSink::core(url, "shop").unwrap());
        let error = send(&sink, delivery(text("m"))).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Retry);
        assert_eq!(error.kind(), FailureKind::Unavailable);
        let message = format!("no connection to `{}`", server.addr());
        assert_eq!(error.to_string(), message);
        let chain = chain(&error);
        assert!(chain.contains("invalid peer certificate"), "{chain}");
    }
    assert!(
        CryptoProvider::get_default().is_none(),
        "the process's provider was set"
    );
}

#[tokio::test]
async fn what_is_to_be_encrypted_is_not_sent_in_the_clear() {
    let server = NatsServer::builder().token("t0ken").start().await.unwrap();
    let sink = NatsSink::core(format!("tls://t0ken@{}", server.addr()), "shop").unwrap();
    let error = send(&service(sink), delivery(text("m"))).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry);
    let text = chain(&error);
    assert!(text.starts_with("no connection to"), "{text}");
}
