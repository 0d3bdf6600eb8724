//! TLS to a server that is dialled by its address: its certificate must bear the name that it is known by.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::Presented;
use crate::client::tls::{Trust, provider};

impl Trust {
    /// The same trust in whoever bears this name, noting what it shows as of this place; the error is a sentence.
    pub fn by_name(&self, name: &str, place: &str, presented: &Presented) -> Result<ClientConfig, String> {
        let known = ServerName::try_from(name.to_owned()).map_err(|error| format!("`{name}`: {error}"))?;
        let inner = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider()).build();
        let inner = inner.map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let mut config = (*self.config).clone();
        config.dangerous().set_certificate_verifier(Arc::new(Named {
            inner,
            name: known,
            place: place.to_owned(),
            presented: presented.clone(),
        }));
        Ok(config)
    }
}

/// Judges certificates by one name, whatever the connection was made to.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
    place: String,
    presented: Presented,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)?;
        self.presented.note(&self.place, end_entity);
        Ok(judged)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
