//! What is read of X.509 certificates: the names they bear, how long they hold, and the files they stand in. Whom to trust is judged by
//! libraries; nothing here decides on it.

pub mod der;
mod presented;

use std::path::Path;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use webpki::EndEntityCert;

use crate::model::Timestamp;
pub use presented::Presented;

/// A short life warns when this part of it is left: programs that renew by themselves do so with a third left.
const LEFT: u32 = 4;

/// The certificates in a PEM file, of which there must be some; the error is a sentence that names the file.
pub fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(file).map_err(|error| format!("{}: cannot be read: {error}", file.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| format!("{}: holds no PEM certificates", file.display()))
}

/// The names that a certificate bears: its DNS names and the common name of its subject, in lower case. Whoever calls has judged it.
pub fn names(der: &[u8]) -> Vec<String> {
    let whole = CertificateDer::from(der);
    let alternative = EndEntityCert::try_from(&whole).ok();
    let alternative = alternative.iter().flat_map(|certificate| certificate.valid_dns_names());
    let subject = der::certificate(der).and_then(|read| der::common_name(read.subject));
    let mut names: Vec<String> = alternative.chain(subject).map(str::to_ascii_lowercase).collect();
    names.dedup();
    names
}

/// From when until when a certificate holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Who it is made out to, for people: the common name as it is written, else a DNS name.
    pub name: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// What a person must know of a term now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    NotYet,
    Expiring,
    Expired,
}

impl Term {
    /// Of one certificate; None: it cannot be read.
    pub fn of(der: &[u8]) -> Option<Term> {
        let read = der::certificate(der)?;
        let common = der::common_name(read.subject).filter(|name| !name.is_empty()).map(str::to_owned);
        let name = common.or_else(|| names(der).into_iter().next()).unwrap_or_else(|| "nobody by name".to_owned());
        let moment = |seconds: i64| Timestamp(seconds.saturating_mul(1000));
        Some(Term { name, not_before: moment(read.not_before), not_after: moment(read.not_after) })
    }

    /// How it stands at this moment. A person is to hear so long before its end, or in the last quarter of a short life.
    pub fn standing(&self, now: Timestamp, warning: Duration) -> Standing {
        let warning = warning.min(self.not_after.since(self.not_before) / LEFT);
        match () {
            () if now > self.not_after => Standing::Expired,
            () if now < self.not_before => Standing::NotYet,
            () if now >= self.not_after.minus(warning) => Standing::Expiring,
            () => Standing::Good,
        }
    }

    /// What is wrong with it at this moment, as a clause that stays the same while it stands so; None: nothing.
    pub fn trouble(&self, now: Timestamp, warning: Duration) -> Option<String> {
        let name = &self.name;
        match self.standing(now, warning) {
            Standing::Good => None,
            Standing::NotYet => Some(format!("the certificate of `{name}` holds only from {} on", self.not_before)),
            Standing::Expiring => Some(format!("the certificate of `{name}` expires at {}", self.not_after)),
            Standing::Expired => Some(format!("the certificate of `{name}` expired at {}", self.not_after)),
        }
    }
}

/// The terms of these certificates. Of several with one subject, as while an authority is renewed, the one that holds longest counts.
pub fn terms(certificates: &[CertificateDer<'_>]) -> Vec<Term> {
    let mut found: Vec<(&[u8], Term)> = Vec::new();
    for one in certificates {
        let (Some(read), Some(term)) = (der::certificate(one), Term::of(one)) else { continue };
        match found.iter_mut().find(|(subject, _)| *subject == read.subject && !subject.is_empty()) {
            Some((_, known)) if known.not_after >= term.not_after => {}
            Some((_, known)) => *known = term,
            None => found.push((read.subject, term)),
        }
    }
    found.into_iter().map(|(_, term)| term).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn a_long_life_warns_in_its_last_weeks_and_a_short_one_in_its_last_quarter() {
        let standing = |days: i64, now: i64| {
            let term = Term { name: "a".into(), not_before: Timestamp(0), not_after: Timestamp(days * DAY) };
            term.standing(Timestamp(now), Duration::from_secs(21 * 86_400))
        };
        for (days, at, want) in [
            (365, -1, Standing::NotYet),
            (365, 0, Standing::Good),
            (365, 344 * DAY - 1, Standing::Good),
            (365, 344 * DAY, Standing::Expiring),
            (365, 365 * DAY, Standing::Expiring),
            (365, 365 * DAY + 1, Standing::Expired),
            (8, 6 * DAY - 1, Standing::Good),
            (8, 6 * DAY, Standing::Expiring),
        ] {
            assert_eq!(standing(days, at), want, "{days} days, at {at}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_term_and_no_names() {
        assert_eq!(Term::of(b"no certificate"), None);
        assert_eq!(names(b"no certificate"), Vec::<String>::new());
        assert_eq!(terms(&[CertificateDer::from(&b"no certificate"[..])]), []);
    }
}
