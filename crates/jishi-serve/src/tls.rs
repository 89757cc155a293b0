//! HTTPS: a certificate and its key from files.

use std::path::Path;
use std::sync::Arc;

use jishi_recipe::{Problem, Problems};
use jishi_runs::folder::read_limited;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Bytes of a file at most.
const FILE: u64 = 1 << 20;

/// What speaks TLS with those who connect.
///
/// # Errors
/// Files that are missing or hold something else; a key that is not the certificate's.
pub fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, Problems> {
    let read = |path: &Path| read_limited(path, FILE).map_err(|error| error.problems());
    let wrong = |path: &Path, what: &str, why: &dyn std::fmt::Display| {
        let problem = Problem::new(format!("expected {what} in PEM: {why}")).file(path);
        Problems::from(problem.help("name the certificate with `tls_cert`, its private key with `tls_key`"))
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let certificates = certificates.map_err(|e| wrong(cert, "a certificate", &e))?;
    if certificates.is_empty() {
        return Err(wrong(cert, "a certificate", &"there is none"));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| wrong(key, "a private key", &e))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Problem::new(format!("no version of TLS is there: {e}")))?
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|e| wrong(key, "the certificate's private key", &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
