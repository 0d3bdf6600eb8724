//! TLS on our side: the certificate that a listener shows, the authority whose certificates it asks for, and the names these prove.
//! Files are read again when they change; a reload exchanges the whole.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsAcceptor;

use super::{Caller, Connection, HANDSHAKE, Wire, too_slow};
use crate::certificate;
use crate::config::ListenTls;
use crate::fresh::Fresh;

/// Whether those without a certificate are heard, where an authority is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// They are not.
    MustShow,
    /// They may be known in another way.
    MayShow,
}

/// The TLS of a listener. Empty: none. Clones are the same.
#[derive(Clone, Default)]
pub struct Tls(Arc<ArcSwapOption<Fresh<Arc<ServerConfig>>>>);

impl Tls {
    /// Reads what the configuration names; the error is a sentence that names the file or key at fault.
    pub fn new(given: Option<&ListenTls>, clients: Clients) -> Result<Tls, String> {
        let Some(given) = given.cloned() else { return Ok(Tls::default()) };
        let mut files = vec![given.cert.clone()];
        files.extend(given.key.path());
        files.extend(given.client_ca.iter().cloned());
        let fresh = Fresh::new(files, move || config(&given, clients))?;
        Ok(Tls(Arc::new(ArcSwapOption::from_pointee(fresh))))
    }

    /// Takes the place of what there was; connections that stand stay as they are.
    pub fn replace(&self, other: &Tls) {
        self.0.store(other.0.load_full());
    }

    /// Whether there is any.
    pub fn is_on(&self) -> bool {
        self.0.load().is_some()
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.0.load().as_ref().map(|fresh| TlsAcceptor::from((*fresh.get()).clone()))
    }
}

/// Carries out the handshake, where there is one to carry out.
pub(super) async fn secure(
    acceptor: Option<TlsAcceptor>,
    wire: Box<dyn Wire>,
    caller: Caller,
) -> Result<Connection, (Caller, io::Error)> {
    let Some(acceptor) = acceptor else { return Ok(Connection { wire, caller }) };
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(wire)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err((caller, error)),
        Err(_) => return Err((caller, too_slow())),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = match (shown.map(|shown| certificate::names(shown)), caller.ip()) {
        (Some(names), Some(ip)) => Caller::Certificate { names: names.into(), ip },
        _ => caller,
    };
    Ok(Connection { wire: Box::new(stream), caller })
}

fn config(given: &ListenTls, clients: Clients) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = match given.client_ca.as_slice() {
        [] => builder.with_no_client_auth(),
        files => {
            let mut roots = RootCertStore::empty();
            for file in files {
                for authority in certificate::read(file)? {
                    let added = roots.add(authority);
                    added.map_err(|error| format!("{}: is no authority: {error}", file.display()))?;
                }
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match clients {
                Clients::MustShow => verifier,
                Clients::MayShow => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("`client_ca`: {error}"))?)
        }
    };
    let chain = certificate::read(&given.cert)?;
    let key = given.key.load().map_err(|error| format!("its key: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| format!("{} holds no PEM private key", given.key))?;
    let built = builder.with_single_cert(chain, key);
    let mut config = built.map_err(|error| format!("{} and its key do not fit: {error}", given.cert.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
