//! Keys that come in a certificate whose address the request names: the address is held to the scheme's hosts, and where the scheme
//! names who it must be for, the chain is judged up to a trusted root.

use std::sync::LazyLock;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use url::Url;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::asymmetric::PublicKey;
use super::content::Request;
use super::verify::{Refusal, json_text};
use super::{CertificatePlace, CertificateSpec, Scheme};
use crate::certificate::der;
use crate::model::Timestamp;
use crate::secret::Secret;

/// The roots that the system trusts; used where the operator gives none.
static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> =
    LazyLock::new(|| rustls_native_certs::load_native_certs().certs);

impl Scheme {
    /// Where the request says its certificate is; None: this scheme needs none. An address that the scheme does not allow is a
    /// refusal.
    pub fn certificate_url(&self, request: &Request<'_>) -> Result<Option<Url>, Refusal> {
        let Some(spec) = &self.certificate else { return Ok(None) };
        // Nothing is fetched for a request that bears no signature at all.
        self.values(request)?;
        spec.url(request).map(Some)
    }

    /// Whether these keys already hold a certificate to verify with, so that none has to be fetched.
    pub fn has_certificate(&self, keys: &[Secret]) -> bool {
        let chained = self.certificate.as_ref().is_some_and(|spec| spec.name.is_some());
        keys.iter().any(|key| Bundle::read(key.expose(), chained).leaf.is_some())
    }
}

impl CertificateSpec {
    fn url(&self, request: &Request<'_>) -> Result<Url, Refusal> {
        let refused = |reason: &str| Refusal::Certificate(reason.to_owned());
        let text = match &self.place {
            CertificatePlace::Header(name) => request.one_header(name)?.map(str::to_owned),
            CertificatePlace::Json(path) => json_text(request.body, path),
        };
        let text = text.ok_or_else(|| refused("the request does not say where it is"))?;
        let mut url = Url::parse(&text).map_err(|_| refused("its address cannot be read"))?;
        // It is never sent, and would make one certificate look like many.
        url.set_fragment(None);
        if url.scheme() != "https" {
            return Err(refused("its address is not https"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
            return Err(refused("its address has a user or a port"));
        }
        let host = url.host_str().unwrap_or_default();
        if !self.hosts.iter().any(|pattern| allows_host(pattern, host)) {
            return Err(refused("its address is on a host that this scheme does not allow"));
        }
        if let Some(pattern) = &self.path
            && (!glob(pattern, url.path()) || url.query().is_some())
        {
            return Err(refused("its address has a path or a query that this scheme does not allow"));
        }
        Ok(url)
    }

    /// The key of the certificate among these.
    pub(super) fn key(&self, text: &str, now: Timestamp) -> Result<PublicKey, Refusal> {
        let refused = |reason: &str| Refusal::Certificate(reason.to_owned());
        let bundle = Bundle::read(text, self.name.is_some());
        let leaf = bundle.leaf.as_ref().ok_or(Refusal::NoKey)?;
        let read = der::certificate(leaf).ok_or_else(|| refused("it cannot be read"))?;
        if now.unix_seconds() < read.not_before || now.unix_seconds() > read.not_after {
            return Err(refused("it is not valid at this time"));
        }
        if let Some(name) = &self.name {
            bundle.judge(name, now).map_err(|reason| refused(&reason))?;
        }
        PublicKey::of_spki(read.spki).ok_or_else(|| refused("its key is of a kind that is not known"))
    }
}

/// Certificates of one text: the first that is no root, roots, and what stands between.
struct Bundle {
    leaf: Option<CertificateDer<'static>>,
    between: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Bundle {
    /// Where no chain is judged there are no roots: a certificate that signed itself may be the one that was pinned.
    fn read(text: &str, chained: bool) -> Bundle {
        let mut bundle = Bundle { leaf: None, between: Vec::new(), roots: Vec::new() };
        for found in CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok) {
            match der::certificate(&found) {
                None => {}
                Some(read) if chained && read.issuer == read.subject => bundle.roots.push(found),
                Some(_) if bundle.leaf.is_none() => bundle.leaf = Some(found),
                Some(_) => bundle.between.push(found),
            }
        }
        bundle
    }

    /// Whether the certificate is for this name, with a chain to a root of ours.
    fn judge(&self, name: &str, now: Timestamp) -> Result<(), String> {
        let leaf = self.leaf.as_ref().ok_or("there is none")?;
        let certificate = EndEntityCert::try_from(leaf).map_err(|_| "it cannot be read")?;
        let roots = if self.roots.is_empty() { SYSTEM.as_slice() } else { self.roots.as_slice() };
        let anchors: Vec<_> = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.unix_seconds()).unwrap_or_default()));
        certificate
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                &self.between,
                at,
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(|_| "it has no chain to a trusted root, or the chain is not valid at this time")?;
        let common = der::certificate(leaf).and_then(|read| der::common_name(read.subject).map(str::to_owned));
        let mut names = certificate.valid_dns_names().map(str::to_owned).chain(common);
        if names.any(|found| allows_host(name, &found)) { Ok(()) } else { Err("it is made out to another name".into()) }
    }
}

/// Whether a host is one of these; `*` stands for one label.
pub fn allows_host(pattern: &str, host: &str) -> bool {
    let (wanted, found): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    let label = |(wanted, found): (&&str, &&str)| match *wanted {
        "*" => !found.is_empty() && found.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
        text => text.eq_ignore_ascii_case(found),
    };
    wanted.len() == found.len() && wanted.iter().zip(&found).all(label)
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| glob(after, rest)))),
    }
}
