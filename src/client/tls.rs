//! TLS of outgoing connections: the system's roots and the operator's, a client certificate, the least version; and the moment at
//! which the TLS part of making a connection begins.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, NamedGroup, RootCertStore, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::{ClientOptions, timing};
use crate::config::TlsVersion;

/// Sessions remembered to go on with, as the library has it.
const SESSIONS: usize = 256;

/// Every file that the TLS of these options is made of.
pub fn files(options: &ClientOptions) -> Vec<PathBuf> {
    let tls = &options.tls;
    let given = tls.cert.iter().cloned().chain(tls.key.as_ref().and_then(|key| key.path()));
    options.network.ca_files.iter().chain(&tls.ca_files).cloned().chain(given).collect()
}

/// Reads them; the error is a sentence that names the file or key at fault.
pub fn config(options: &ClientOptions, protocols: &[&[u8]]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for file in options.network.ca_files.iter().chain(&options.tls.ca_files) {
        for certificate in certificates(file)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("{}: holds what is no certificate: {error}", file.display()))?;
        }
    }
    let versions: &[_] = match options.tls.min_version {
        Some(TlsVersion::V1_3) => &[&version::TLS13],
        Some(TlsVersion::V1_2) | None => &[&version::TLS13, &version::TLS12],
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match (&options.tls.cert, &options.tls.key) {
        (Some(cert), Some(key)) => {
            let wrong = || format!("{} and its key are not a PEM certificate and private key", cert.display());
            let chain = certificates(cert)?;
            let key = key.load().map_err(|error| error.to_string())?;
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| wrong())?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("{}: {error}", wrong()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::store(Arc::new(Sessions(ClientSessionMemoryCache::new(SESSIONS))));
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| format!("{}: holds no PEM certificates", path.display()))
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
