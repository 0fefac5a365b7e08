//! TLS to a server, with a provider of its own: a library must not choose one for the whole program.

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::queue::Error;

/// Connects to one server, whose certificate must be for its name and by an authority that is trusted.
pub(super) struct Secured {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Secured {
    /// Trusts the authorities in a file, else the system's.
    pub(super) fn new(host: &str, authorities: Option<&Path>) -> Result<Self, Error> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Error::Settings(format!("the Redis URL: {host}: {error}")))?;
        let trusted = match authorities {
            Some(file) => read(file)?,
            None => of_the_system()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Settings(error.to_string()))?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn secure(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn read(file: &Path) -> Result<RootCertStore, Error> {
    let failed =
        |error: String| Error::Settings(format!("certificate authorities {}: {error}", file.display()));
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        trusted.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if trusted.is_empty() {
        return Err(failed("it holds no certificate".into()));
    }
    Ok(trusted)
}

fn of_the_system() -> Result<RootCertStore, Error> {
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted.is_empty() {
        return Err(Error::Settings(
            "this system has no certificate authorities: name a file of them by QSCALER_QUEUE_CA".into(),
        ));
    }
    Ok(trusted)
}
