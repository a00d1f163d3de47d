//! Connections of clients: TCP, and TLS on it.

use std::path::Path;
use std::sync::Arc;

use akida_tools::exit::{Exit, Failure};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::client::Url;
use crate::net::{Stream, certificates};

/// How a service is reached.
#[derive(Clone)]
pub struct Road {
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Road {
    /// To a service; `ca` is the file with the authority that its certificate is from.
    pub fn new(url: &Url, ca: Option<&Path>) -> Result<Self, Failure> {
        let usage = |message: String, help: &str| Failure::new(Exit::Usage, message, help);
        let authority = url.authority.clone();
        let ca = match (url.tls, ca) {
            (false, None) => return Ok(Self { authority, tls: None }),
            (false, Some(_)) => return Err(usage("--ca is for TLS".into(), "https://HOST:PORT or grpcs://HOST:PORT")),
            (true, None) => return Err(usage("TLS needs an authority to trust".into(), "give --ca FILE in PEM")),
            (true, Some(ca)) => ca,
        };
        let help = "a file in PEM with the certificate of the authority, as tls.client_ca of the service";
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca).map_err(|e| usage(e, help))? {
            roots.add(certificate).map_err(|e| usage(format!("{}: {e}", ca.display()), help))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Failure::because(Exit::Internal, "TLS", &e, "please report this"))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![if url.grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let host = authority.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone())
            .map_err(|e| usage(format!("{host:?} is in no certificate: {e}"), "a host's name or address"))?;
        Ok(Self { authority, tls: Some((TlsConnector::from(Arc::new(config)), name)) })
    }

    /// A connection.
    pub async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
        }
    }
}
