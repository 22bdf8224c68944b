//! Who vouches for whom.

use std::{fs, sync::Arc};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

/// An authority, and the files that a client of its needs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
    dir: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let authority = Self {
            issuer: Issuer::new(params, key),
            roots: Arc::new(roots),
            dir: TempDir::new().expect("a folder"),
        };
        authority.write("authority.pem", &certificate.pem());
        let (client, key) = authority.certify("shop");
        authority.write("client.pem", &client.pem());
        authority.write("client.key", &key.serialize_pem());
        authority
    }

    /// What clients are set to that trust it.
    pub(crate) fn trusted(&self) -> Vec<(&'static str, String)> {
        vec![
            ("security.protocol", "ssl".to_owned()),
            ("ssl.ca.location", self.path("authority.pem")),
        ]
    }

    /// What clients are set to that it vouches for.
    pub(crate) fn vouched_for(&self) -> Vec<(&'static str, String)> {
        let mut options = self.trusted();
        options.push(("ssl.certificate.location", self.path("client.pem")));
        options.push(("ssl.key.location", self.path("client.key")));
        options
    }

    /// How a server encrypts that is known as `host`, and takes any client, or only those that it vouches for.
    pub(crate) fn server(&self, host: &str, clients: Clients) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            Clients::All => builder.with_no_client_auth(),
            Clients::VouchedFor => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider)
                    .build()
                    .expect("a verifier"),
            ),
        };
        let (certificate, key) = self.certify(host);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        builder
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::from(key))
            .expect("a certificate and its key")
    }

    fn certify(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate, key)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("written");
    }

    fn path(&self, name: &str) -> String {
        self.dir
            .path()
            .join(name)
            .to_str()
            .expect("UTF-8")
            .to_owned()
    }
}

/// Which clients a server takes.
pub(crate) enum Clients {
    All,
    VouchedFor,
}
