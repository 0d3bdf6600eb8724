//! TLS to a broker: the system's certificates and our own, a client certificate, a least version.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Network, Tls, TlsVersion};
use crate::fresh::Fresh;
use crate::secret::SecretRef;

/// What a connection is made with.
#[derive(Clone)]
pub struct Trust {
    pub config: Arc<ClientConfig>,
    #[cfg(feature = "nats")]
    pub roots: Arc<RootCertStore>,
}

/// What the configuration names, read again when a file changes. The error is a sentence that names the file at fault.
pub fn fresh(tls: &Tls, network: &Network) -> Result<Fresh<Trust>, String> {
    let named = tls.cert.iter().cloned().chain(tls.key.as_ref().and_then(SecretRef::path));
    let files = network.ca_files.iter().chain(&tls.ca_files).cloned().chain(named).collect();
    let (tls, network) = (tls.clone(), network.clone());
    Fresh::new(files, move || trust(&tls, &network))
}

fn trust(tls: &Tls, network: &Network) -> Result<Trust, String> {
    let mut roots = RootCertStore::empty();
    // A machine without certificates of its own can still have those of the configuration.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in network.ca_files.iter().chain(&tls.ca_files) {
        let (added, _) = roots.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            return Err(format!("{}: holds no PEM certificates", path.display()));
        }
    }
    let roots = Arc::new(roots);
    let versions: &[_] = if tls.min_version == Some(TlsVersion::V1_3) { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = builder.with_root_certificates(roots.clone());
    let config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let wrong = |error: Error| format!("{} and its key do not go together: {error}", cert.display());
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(wrong)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Trust {
        config: Arc::new(config),
        #[cfg(feature = "nats")]
        roots,
    })
}

/// The same as everywhere in the daemon, named because a build may hold a second one.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| format!("{}: holds no PEM certificates", path.display()))
}

fn private_key(place: &SecretRef) -> Result<PrivateKeyDer<'static>, String> {
    let key = place.load().map_err(|error| error.to_string())?;
    PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| format!("{place}: holds no PEM private key"))
}

/// Whether a failure was TLS's, however deep it lies.
pub fn failed(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // An input or output error keeps what it was made of to itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<Error>() || inner.is_some_and(|inner| inner.is::<Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}
