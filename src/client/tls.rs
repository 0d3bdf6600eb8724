//! TLS of all that we call, over HTTP or not: the system's roots and the operator's, a client certificate, the least version; and, for
//! HTTP, the moment at which the TLS part of making a connection begins.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, Error, NamedGroup, RootCertStore, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, ServerName};

use super::timing;
use crate::certificate;
use crate::config::{Network, Tls, TlsVersion};
use crate::fresh::Fresh;
use crate::secret::SecretRef;

/// Sessions remembered to go on with, as the library has it.
const SESSIONS: usize = 256;

/// What connections are made with, and whose certificates it trusts.
#[derive(Clone)]
pub struct Trust {
    pub config: Arc<ClientConfig>,
    pub roots: Arc<RootCertStore>,
}

/// Every file that it is made of.
pub fn files(tls: &Tls, network: &Network) -> Vec<PathBuf> {
    let given = tls.cert.iter().cloned().chain(tls.key.as_ref().and_then(SecretRef::path));
    network.ca_files.iter().chain(&tls.ca_files).cloned().chain(given).collect()
}

/// What the configuration names, read again when a file changes. The error is a sentence that names the file or key at fault.
pub fn fresh(tls: &Tls, network: &Network) -> Result<Fresh<Trust>, String> {
    let (given, of) = (tls.clone(), network.clone());
    Fresh::new(files(tls, network), move || trust(&given, &of))
}

fn trust(tls: &Tls, network: &Network) -> Result<Trust, String> {
    let mut roots = RootCertStore::empty();
    // A machine without certificates of its own can still have those of the configuration.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for file in network.ca_files.iter().chain(&tls.ca_files) {
        for authority in certificate::read(file)? {
            let added = roots.add(authority);
            added.map_err(|error| format!("{}: holds what is no certificate: {error}", file.display()))?;
        }
    }
    let roots = Arc::new(roots);
    let versions: &[_] = match tls.min_version {
        Some(TlsVersion::V1_3) => &[&version::TLS13],
        Some(TlsVersion::V1_2) | None => &[&version::TLS13, &version::TLS12],
    };
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = builder.with_root_certificates(roots.clone());
    let config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let wrong = |error| format!("{} and its key do not go together: {error}", cert.display());
            builder.with_client_auth_cert(certificate::read(cert)?, private_key(key)?).map_err(wrong)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Trust { config: Arc::new(config), roots })
}

/// The same for HTTP with these protocols.
pub fn for_http(tls: &Tls, network: &Network, protocols: &[&[u8]]) -> Result<ClientConfig, String> {
    let mut config = Arc::unwrap_or_clone(trust(tls, network)?.config);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::store(Arc::new(Sessions(ClientSessionMemoryCache::new(SESSIONS))));
    Ok(config)
}

/// The cryptography used everywhere in the daemon, named because a build may hold a second one.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
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

/// Remembers sessions as the library's own store does. It is asked at the start of each handshake, which is how the time of TLS can
/// be told from that of TCP: the connector shows the two as one.
#[derive(Debug)]
struct Sessions(ClientSessionMemoryCache);

impl ClientSessionStore for Sessions {
    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        timing::tls_begins();
        self.0.kx_hint(server)
    }

    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        timing::tls_begins();
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        timing::tls_begins();
        self.0.take_tls13_ticket(server)
    }
}
