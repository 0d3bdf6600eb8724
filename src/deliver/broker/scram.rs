//! SCRAM (RFC 5802, RFC 7677): proves that both sides know a password, which is not sent. Pure; the exchange itself is the caller's.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::num::NonZeroU32;

/// More would be asked for by nobody, and would cost minutes.
const ITERATIONS_MAX: u32 = 1_000_000;

/// By which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
}

/// An exchange of which the first message was made.
pub struct Exchange {
    hash: Hash,
    nonce: String,
    first_bare: String,
}

impl Exchange {
    /// Begins one; `nonce` is random printable text without commas.
    pub fn new(hash: Hash, user: &str, nonce: String) -> Exchange {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Exchange { hash, first_bare: format!("n={user},r={nonce}"), nonce }
    }

    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The answer to the server's first message, and what the server's last must be. The error is a sentence.
    pub fn last(&self, server: &str, password: &str) -> Result<(String, String), String> {
        let attribute = |name: &str| server.split(',').find_map(|part| part.strip_prefix(name));
        let (nonce, salt, count) = (attribute("r="), attribute("s="), attribute("i="));
        let wrong = || "the answer to a SCRAM login was not understood".to_owned();
        let nonce = nonce.filter(|n| n.starts_with(&self.nonce) && n.len() > self.nonce.len()).ok_or_else(wrong)?;
        let salt = salt.and_then(|salt| STANDARD.decode(salt).ok()).ok_or_else(wrong)?;
        let count = count.and_then(|count| count.parse().ok()).filter(|count| *count <= ITERATIONS_MAX);
        let count = count.and_then(NonZeroU32::new).ok_or_else(wrong)?;
        let salted = self.salted(password, &salt, count);
        let client_key = self.keyed(&salted, b"Client Key");
        let stored_key = digest::digest(self.digest(), &client_key);
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server},{without_proof}", self.first_bare);
        let signature = self.keyed(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = self.keyed(&salted, b"Server Key");
        let expected = STANDARD.encode(self.keyed(&server_key, message.as_bytes()));
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)), format!("v={expected}")))
    }

    fn salted(&self, password: &str, salt: &[u8], count: NonZeroU32) -> Vec<u8> {
        let (algorithm, length) = match self.hash {
            Hash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, digest::SHA256_OUTPUT_LEN),
            Hash::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, digest::SHA512_OUTPUT_LEN),
        };
        let mut salted = vec![0; length];
        pbkdf2::derive(algorithm, count, salt, password.as_bytes(), &mut salted);
        salted
    }

    fn keyed(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let algorithm = match self.hash {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
    }

    fn digest(&self) -> &'static digest::Algorithm {
        match self.hash {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_published_exchange_is_made() {
        let exchange = Exchange::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(exchange.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, expected) = exchange.last(server, "pencil").expect("understood");
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(expected, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_name_may_hold_anything_and_a_foreign_answer_is_refused() {
        assert_eq!(Exchange::new(Hash::Sha512, "a=b,c", "N".into()).first(), "n,,n=a=3Db=2Cc,r=N");
        let exchange = Exchange::new(Hash::Sha512, "u", "N".into());
        for server in
            ["", "r=X,s=YQ==,i=1", "r=N,s=YQ==,i=1", "r=N1,s=!,i=1", "r=N1,s=YQ==,i=0", "r=N1,s=YQ==,i=9999999999"]
        {
            assert!(exchange.last(server, "p").is_err(), "{server}");
        }
        assert!(exchange.last("r=N1,s=YQ==,i=1", "p").is_ok());
    }
}
