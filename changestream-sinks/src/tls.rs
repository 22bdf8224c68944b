//! TLS by ring, whichever provider the process has installed, and by the operating system's roots.

use std::sync::Arc;

use changestream_core::Error;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;

/// Trusts the servers that the system's roots vouch for. `sink` is named in the error: `an HTTP sink`.
pub(crate) fn verified(sink: &str) -> Result<ClientConfig, Error> {
    let config = builder().and_then(BuilderVerifierExt::with_platform_verifier);
    match config {
        Ok(config) => Ok(config.with_no_client_auth()),
        Err(error) => Err(failed(sink, error)),
    }
}

/// Trusts no server: for what is not encrypted, so that it works where there are no roots to load.
#[cfg(any(feature = "http", feature = "nats"))]
pub(crate) fn trusting_none(sink: &str) -> Result<ClientConfig, Error> {
    let builder = builder().map_err(|error| failed(sink, error))?;
    let nobody = rustls::RootCertStore::empty();
    Ok(builder.with_root_certificates(nobody).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

fn failed(sink: &str, error: rustls::Error) -> Error {
    Error::configuration(format!(
        "the system's trusted certificates cannot be loaded for {sink}; install them (`ca-certificates`), or name them \
         in `SSL_CERT_FILE`"
    ))
    .caused_by(error)
}
