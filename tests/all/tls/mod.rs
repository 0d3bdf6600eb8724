//! TLS told against real handshakes: certificates of an authority made for the test, on our side of the connection and on the other.

mod doors;
mod expiry;
mod listeners;
mod mail;
mod outgoing;

use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// Year, month and day.
type Date = (i32, u8, u8);

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Issued {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        Authority::until(name, (4000, 1, 1))
    }

    fn until(name: &str, (year, month, day): Date) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_after = date_time_ymd(year, month, day);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate with these DNS names or addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.sign(names, None)
    }

    fn sign(&self, names: &[&str], common_name: Option<&str>) -> Issued {
        self.sign_for(names, common_name, ((1975, 1, 1), (4000, 1, 1)))
    }

    /// For the time from midnight to midnight.
    fn sign_for(&self, names: &[&str], common_name: Option<&str>, (from, until): (Date, Date)) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name = DistinguishedName::new();
        (params.not_before, params.not_after) =
            (date_time_ymd(from.0, from.1, from.2), date_time_ymd(until.0, until.1, until.2));
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("signed");
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    pub fn write(&self, cert: &Path, key: &Path) {
        std::fs::write(cert, &self.cert).expect("written");
        std::fs::write(key, &self.key).expect("written");
    }
}

/// TLS of a server that shows this certificate and, where an authority is given, demands one of its.
fn acceptor(
    issued: &Issued,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions).expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(issued.cert.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
    TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).expect("they fit")))
}

/// Every version that there is.
const ALL: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// A server of HTTP over TLS that notes, for each request: the name that TLS asked for, the names of the client, and the head.
#[derive(Clone)]
struct Stub {
    port: u16,
    noted: Arc<Mutex<Vec<Noted>>>,
    acceptor: Arc<Mutex<TlsAcceptor>>,
}

#[derive(Clone, Debug)]
struct Noted {
    asked_for: Option<String>,
    client: Vec<String>,
    head: String,
}

impl Stub {
    async fn listen(acceptor: TlsAcceptor) -> Stub {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let stub = Stub { port, noted: Arc::default(), acceptor: Arc::new(Mutex::new(acceptor)) };
        let serving = stub.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().talk(stream));
            }
        });
        stub
    }

    fn noted(&self) -> Vec<Noted> {
        self.noted.lock().expect("lock").clone()
    }

    async fn talk(self, stream: tokio::net::TcpStream) -> Option<()> {
        let acceptor = self.acceptor.lock().expect("lock").clone();
        let mut stream = acceptor.accept(stream).await.ok()?;
        let connection = stream.get_ref().1;
        let asked_for = connection.server_name().map(str::to_owned);
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let client = shown.map(|shown| ringback::certificate::names(shown)).unwrap_or_default();
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let mut body = vec![0; length.parse().ok()?];
            stream.read_exact(&mut body).await.ok()?;
            let noted = Noted { asked_for: asked_for.clone(), client: client.clone(), head };
            self.noted.lock().expect("lock").push(noted);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").await.ok()?;
        }
    }
}

#[test]
fn the_names_of_a_certificate_are_its_dns_names_and_its_common_name() {
    let authority = Authority::new("bank");
    let names = |issued: Issued| {
        let der = CertificateDer::from_pem_slice(issued.cert.as_bytes()).expect("a certificate");
        ringback::certificate::names(&der)
    };
    assert_eq!(
        names(authority.sign(&["Core.bank.example", "b.example"], Some("Core"))),
        ["core.bank.example", "b.example", "core"]
    );
    assert_eq!(names(authority.sign(&[], Some("core.bank.example"))), ["core.bank.example"]);
    assert_eq!(ringback::certificate::names(b"no certificate"), Vec::<String>::new());
}
