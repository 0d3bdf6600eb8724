//! The few parts of DER that are looked at: the key inside a SubjectPublicKeyInfo, and the term and common name of a certificate.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// RSA keys.
pub const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// Keys on an elliptic curve.
pub const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// The curve P-256.
pub const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Ed25519 keys.
pub const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// A public key: its algorithm, the curve where it has one, and its bits.
pub struct Spki<'d> {
    pub algorithm: &'d [u8],
    pub curve: Option<&'d [u8]>,
    pub bits: &'d [u8],
}

/// Reads a SubjectPublicKeyInfo.
pub fn spki(der: &[u8]) -> Option<Spki<'_>> {
    let mut outer = Reader(Reader(der).whole(SEQUENCE)?);
    let mut algorithm = Reader(outer.take(SEQUENCE)?);
    let bits = outer.take(BIT_STRING)?;
    let name = algorithm.take(OID)?;
    // A bit string begins with the number of bits left over, which keys have none of.
    let bits = bits.strip_prefix(&[0])?;
    Some(Spki { algorithm: name, curve: algorithm.take(OID), bits })
}

/// What is looked at of a certificate.
pub struct Certificate<'d> {
    pub issuer: &'d [u8],
    pub subject: &'d [u8],
    pub spki: &'d [u8],
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
}

/// Reads a certificate as far as it is looked at.
pub fn certificate(der: &[u8]) -> Option<Certificate<'_>> {
    let mut outer = Reader(Reader(der).whole(SEQUENCE)?);
    let mut body = Reader(outer.take(SEQUENCE)?);
    body.skip(VERSION);
    body.next()?; // serial number
    body.take(SEQUENCE)?; // signature algorithm
    let issuer = body.take(SEQUENCE)?;
    let mut term = Reader(body.take(SEQUENCE)?);
    let subject = body.take(SEQUENCE)?;
    let (_, _, spki) = body.next()?;
    Some(Certificate { issuer, subject, spki, not_before: term.time()?, not_after: term.time()? })
}

/// The common name in a subject.
pub fn common_name(subject: &[u8]) -> Option<&str> {
    let mut names = Reader(subject);
    let mut found = None;
    while let Some(set) = names.take(SET) {
        let mut pair = Reader(Reader(set).take(SEQUENCE)?);
        if pair.take(OID)? == OID_COMMON_NAME {
            let (_, value, _) = pair.next()?;
            found = std::str::from_utf8(value).ok();
        }
    }
    found
}

/// An RSAPublicKey of its two numbers.
pub fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let bytes: &[u8] = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
        // A first bit that is set would make it negative.
        let sign = bytes.first().is_none_or(|first| first & 0x80 != 0).then_some(0);
        element(INTEGER, &sign.into_iter().chain(bytes.iter().copied()).collect::<Vec<u8>>())
    };
    element(SEQUENCE, &[number(modulus), number(exponent)].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|b| **b == 0).count()..];
    let head = match content.len() {
        short @ 0..0x80 => vec![tag, short as u8],
        _ => [&[tag, 0x80 | length.len() as u8], length].concat(),
    };
    [head.as_slice(), content].concat()
}

struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    /// The next element: its tag, what is in it, and all of it.
    fn next(&mut self) -> Option<(u8, &'d [u8], &'d [u8])> {
        let (tag, length, header) = match self.0 {
            [tag, short, ..] if *short < 0x80 => (*tag, usize::from(*short), 2),
            [tag, 0x81, one, ..] => (*tag, usize::from(*one), 3),
            [tag, 0x82, one, two, ..] => (*tag, usize::from(*one) << 8 | usize::from(*two), 4),
            _ => return None,
        };
        let all = self.0.get(..header + length)?;
        self.0 = &self.0[header + length..];
        Some((tag, &all[header..], all))
    }

    /// What is in the next element, which must be of this kind; otherwise it stays.
    fn take(&mut self, wanted: u8) -> Option<&'d [u8]> {
        if self.0.first() != Some(&wanted) {
            return None;
        }
        self.next().map(|(_, content, _)| content)
    }

    fn skip(&mut self, optional: u8) {
        self.take(optional);
    }

    /// What is in the one element there is.
    fn whole(mut self, wanted: u8) -> Option<&'d [u8]> {
        let content = self.take(wanted)?;
        self.0.is_empty().then_some(content)
    }

    fn time(&mut self) -> Option<i64> {
        let (tag, text, _) = self.next()?;
        let text = std::str::from_utf8(text).ok()?;
        let text = match tag {
            // Two digits of a year: 50 and above are of the last century.
            UTC_TIME if text.get(..2)? >= "50" => format!("19{text}"),
            UTC_TIME => format!("20{text}"),
            GENERALIZED_TIME => text.to_owned(),
            _ => return None,
        };
        chrono::NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok().map(|time| time.and_utc().timestamp())
    }
}
