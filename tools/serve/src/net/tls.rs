//! TLS of a listener: certificate, key and client authority from files, read again on a reload.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::options::TlsFiles;

/// Reads the files. With `tokens` a client certificate is optional, since a caller may have a token instead.
///
/// # Errors
///
/// Names the file.
pub fn read(files: &TlsFiles, tokens: bool) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| wrong(&files.key, &e, "a private key in PEM"))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| wrong(path, &e, "certificates of an authority"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if tokens { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(|e| wrong(path, &e, "certificates of an authority"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| {
        format!("{} and {} do not belong together: {e}", files.certificate.display(), files.key.display())
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates of a file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let what = "certificates in PEM";
    let read = CertificateDer::pem_file_iter(path).map_err(|e| wrong(path, &e, what))?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(path, &e, what))?;
    match all.is_empty() {
        true => Err(wrong(path, &"there is none in it", what)),
        false => Ok(all),
    }
}

fn wrong(path: &Path, error: &dyn std::fmt::Display, what: &str) -> String {
    format!("{}: {error}; it should hold {what}", path.display())
}
