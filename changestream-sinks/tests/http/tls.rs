//! Encrypted connections.

use std::sync::Arc;

use changestream_core::{Disposition, testing::delivery};
use changestream_sinks::HttpSink;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::PrivateKeyDer,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{chain, send, text};

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(stream).await
    });

    let sink = HttpSink::new(format!("https://localhost:{port}/events")).unwrap();
    let error = send(&sink, delivery(text("m"))).await.unwrap_err();

    assert_eq!(error.disposition(), Disposition::Retry);
    let chain = chain(&error);
    assert!(chain.contains("invalid peer certificate"), "{chain}");
    assert!(server.await.unwrap().is_err());
    assert!(
        CryptoProvider::get_default().is_none(),
        "the process's provider was set"
    );
}
