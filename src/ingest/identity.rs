//! The id of an event: computed from what changed, so that a change seen twice has one id (RULES R2.1).

use sha2::{Digest, Sha256};

use crate::model::{EventId, Fingerprint, Key, SourceName};

/// What an id is computed over. `ordinal` is (version, n), or the revision where records have no version.
pub struct Identity<'a> {
    pub source: &'a SourceName,
    pub stream: &'a str,
    pub key: &'a Key,
    pub of: IdentityOf<'a>,
}

pub enum IdentityOf<'a> {
    /// `detect = "new"`: the key alone.
    Key {
        deleted: bool,
    },
    Version {
        deleted: bool,
        version: &'a str,
        n: u32,
        fingerprint: Fingerprint,
    },
    Revision {
        deleted: bool,
        revision: u64,
        fingerprint: Fingerprint,
    },
}

impl Identity<'_> {
    /// `evt_` and 26 characters of base32 (RFC 4648, lower case, no padding) over 128 bits of SHA-256.
    pub fn id(&self) -> EventId {
        let mut hash = Sha256::new();
        part(&mut hash, self.source.as_str().as_bytes());
        part(&mut hash, self.stream.as_bytes());
        part(&mut hash, self.key.as_str().as_bytes());
        match &self.of {
            IdentityOf::Key { deleted } => part(&mut hash, if *deleted { b"new-deleted" } else { b"new" }),
            IdentityOf::Version { deleted, version, n, fingerprint } => {
                part(&mut hash, if *deleted { b"deleted" } else { b"version" });
                part(&mut hash, version.as_bytes());
                part(&mut hash, &n.to_be_bytes());
                part(&mut hash, &fingerprint.0);
            }
            IdentityOf::Revision { deleted, revision, fingerprint } => {
                part(&mut hash, if *deleted { b"deleted-r" } else { b"revision" });
                part(&mut hash, &revision.to_be_bytes());
                part(&mut hash, &fingerprint.0);
            }
        }
        EventId::from(format!("evt_{}", base32(&hash.finalize()[..16])))
    }
}

/// Each part goes in behind its length, so that no two different lists of parts give the same bytes.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(LETTERS[(buffer >> bits) as usize & 31] as char);
        }
    }
    if bits > 0 {
        text.push(LETTERS[(buffer << (5 - bits)) as usize & 31] as char);
    }
    text
}

/// 128 bits of SHA-256.
pub fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut out = [0; 16];
    out.copy_from_slice(&Sha256::digest(bytes)[..16]);
    Fingerprint(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(stream: &str, key: &str, of: IdentityOf<'_>) -> EventId {
        Identity { source: &"core".into(), stream, key: &key.into(), of }.id()
    }

    #[test]
    fn ids_have_the_written_form_and_differ_in_every_part() {
        let f = Fingerprint([7; 16]);
        let g = Fingerprint([8; 16]);
        let ids = [
            id("payments", "P-1", IdentityOf::Key { deleted: false }),
            id("payments", "P-1", IdentityOf::Key { deleted: true }),
            id("payment", "sP-1", IdentityOf::Key { deleted: false }),
            id("payments", "P-1", IdentityOf::Version { deleted: false, version: "1", n: 0, fingerprint: f }),
            id("payments", "P-1", IdentityOf::Version { deleted: true, version: "1", n: 0, fingerprint: f }),
            id("payments", "P-1", IdentityOf::Version { deleted: false, version: "2", n: 0, fingerprint: f }),
            id("payments", "P-1", IdentityOf::Version { deleted: false, version: "1", n: 1, fingerprint: f }),
            id("payments", "P-1", IdentityOf::Version { deleted: false, version: "1", n: 0, fingerprint: g }),
            id("payments", "P-1", IdentityOf::Revision { deleted: false, revision: 1, fingerprint: f }),
            id("payments", "P-1", IdentityOf::Revision { deleted: false, revision: 2, fingerprint: f }),
        ];
        for (n, one) in ids.iter().enumerate() {
            assert!(one.as_str().starts_with("evt_") && one.as_str().len() == 30, "{one}");
            assert!(ids[..n].iter().all(|other| other != one), "{n}: {one}");
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("fooba", "mzxw6ytb")]
        {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
