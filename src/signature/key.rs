//! Keys, digests and encodings.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use super::{Algorithm, Encoding, KeyEncoding};

/// The key's bytes; None when the secret is not of this encoding or is empty.
pub fn decode(secret: &str, encoding: KeyEncoding) -> Option<Vec<u8>> {
    let key = match encoding {
        KeyEncoding::Text => secret.as_bytes().to_vec(),
        KeyEncoding::Hex => hex::decode(secret).ok()?,
        KeyEncoding::Base64 => STANDARD.decode(secret).ok()?,
        KeyEncoding::Whsec => {
            let text = secret.strip_prefix("whsec_").unwrap_or(secret);
            STANDARD.decode(text).ok()?
        }
        KeyEncoding::Sha1 => Sha1::digest(secret.as_bytes()).to_vec(),
        KeyEncoding::Whpk | KeyEncoding::Pem | KeyEncoding::PemBase64 | KeyEncoding::SpkiBase64 | KeyEncoding::Jwk => {
            return None;
        }
    };
    (!key.is_empty()).then_some(key)
}

/// HMAC of `content`.
pub fn mac(algorithm: Algorithm, key: &[u8], content: &[u8]) -> Vec<u8> {
    macro_rules! mac {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(content);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    match algorithm {
        Algorithm::Sha1 => mac!(Sha1),
        Algorithm::Sha256 => mac!(Sha256),
        Algorithm::Sha384 => mac!(Sha384),
        Algorithm::Sha512 => mac!(Sha512),
    }
}

/// Plain hash of `content`.
pub fn digest(algorithm: Algorithm, content: &[u8]) -> Vec<u8> {
    match algorithm {
        Algorithm::Sha1 => Sha1::digest(content).to_vec(),
        Algorithm::Sha256 => Sha256::digest(content).to_vec(),
        Algorithm::Sha384 => Sha384::digest(content).to_vec(),
        Algorithm::Sha512 => Sha512::digest(content).to_vec(),
    }
}

/// Bytes as a signature writes them.
pub fn encode(bytes: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Hex | Encoding::HexAnyCase => hex::encode(bytes),
        Encoding::Base64 => STANDARD.encode(bytes),
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
    }
}

/// The bytes of a signature; None when it is not written so.
pub fn read(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Hex | Encoding::HexAnyCase => hex::decode(text).ok(),
        Encoding::Base64 => STANDARD.decode(text).ok(),
        Encoding::Base64Url => URL_SAFE_NO_PAD.decode(text).ok(),
    }
}

/// Whether an offered signature is this one, in constant time. Compared as text, as the providers' own libraries do;
/// `hex_any_case` alone does not mind the case.
pub fn same(offered: &str, wanted: &[u8], encoding: Encoding) -> bool {
    let wanted = encode(wanted, encoding);
    match encoding {
        Encoding::HexAnyCase => equal(&offered.to_ascii_lowercase(), &wanted),
        Encoding::Hex | Encoding::Base64 | Encoding::Base64Url => equal(offered, &wanted),
    }
}

/// Equality in time that depends on the lengths alone.
pub fn equal(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}
