//! Seals what must be kept and must not be read: tokens that providers gave. AES-256-GCM under a key made from `state_key`; what is
//! sealed for one credential cannot be opened as another's.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::secret::Secret;

/// The form in which things are sealed; the first byte of each.
const FORM: u8 = 1;
/// Shorter secrets can be guessed.
const KEY_MIN: usize = 16;

/// Seals and opens. Cheap to clone; prints nothing.
#[derive(Clone)]
pub struct Sealer(Arc<RandomizedNonceKey>);

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

impl Sealer {
    /// The sealer of a secret; the error is a sentence.
    pub fn of(secret: &Secret) -> Result<Sealer, String> {
        if secret.expose().len() < KEY_MIN {
            return Err(format!("is shorter than {KEY_MIN} characters; `openssl rand -hex 32` makes a good one"));
        }
        let made = || {
            let mut key = [0; 32];
            let salted = Salt::new(HKDF_SHA256, b"ringback").extract(secret.expose().as_bytes());
            salted.expand(&[b"kept tokens"], Length).ok()?.fill(&mut key).ok()?;
            RandomizedNonceKey::new(&AES_256_GCM, &key).ok()
        };
        made().map(|key| Sealer(Arc::new(key))).ok_or_else(|| "gives no key".to_owned())
    }

    /// None: the system gives no random bytes.
    pub fn seal(&self, whose: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(whose.as_bytes()), &mut sealed).ok()?;
        Some([&[FORM], nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// None: it was sealed with another key, for another credential, or was changed since.
    pub fn open(&self, whose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let rest = sealed.strip_prefix(&[FORM])?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut open = sealed.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(whose.as_bytes()), &mut open).ok()?.len();
        open.truncate(length);
        Some(open)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secret: &str) -> Sealer {
        Sealer::of(&Secret::new(secret)).expect("long enough")
    }

    #[test]
    fn what_is_sealed_opens_with_its_own_key_for_its_own_credential_alone() {
        let ours = sealer("a secret of some length");
        let sealed = ours.seal("a", b"token").expect("sealed");
        assert!(!sealed.windows(5).any(|bytes| bytes == b"token"));
        assert_ne!(sealed, ours.seal("a", b"token").expect("sealed"), "never twice the same");
        assert_eq!(sealer("a secret of some length").open("a", &sealed).as_deref(), Some(&b"token"[..]));
        assert_eq!(ours.open("b", &sealed), None);
        assert_eq!(sealer("another secret, as long").open("a", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(ours.open("a", &changed), None, "byte {at}");
            assert_eq!(ours.open("a", &sealed[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(Sealer::of(&Secret::new("0123456789abcde")).is_err());
        assert_eq!(format!("{:?}", sealer("0123456789abcdef")), "***");
    }
}
