//! HMAC-SHA-256 (RFC 2104): how an identifier is recognised again where it may not be kept itself (PHI-1, PHI-2).

use std::fmt;

use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private},
    sign::Signer,
};

/// A key for hashing. `Debug` hides it.
#[derive(Clone)]
pub struct KeyedHash {
    key: PKey<Private>,
}

impl KeyedHash {
    /// Hashing under `key`.
    pub fn new(key: &[u8; 32]) -> Self {
        let key = PKey::hmac(key).expect("32 octets are an HMAC key like any others");
        Self { key }
    }

    /// The hash of `parts` in their order. Each is preceded by its length, so that no two lists of parts are taken for
    /// the same.
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.sum(parts)
            .expect("HMAC-SHA-256 takes octets of any kind and number")
    }

    /// A key for another purpose: it tells nothing of this one.
    pub fn derive(&self, purpose: &str) -> Self {
        Self::new(&self.of(&[b"derive", purpose.as_bytes()]))
    }

    fn sum(&self, parts: &[&[u8]]) -> Result<[u8; 32], openssl::error::ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        for part in parts {
            signer.update(&(part.len() as u64).to_be_bytes())?;
            signer.update(part)?;
        }
        let mut sum = [0; 32];
        signer.sign(&mut sum)?;
        Ok(sum)
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_octets_cut_elsewhere_hash_to_something_else() {
        let hash = KeyedHash::new(&[7; 32]);
        assert_eq!(hash.of(&[b"ab", b"c"]), hash.of(&[b"ab", b"c"]));
        assert_ne!(hash.of(&[b"ab", b"c"]), hash.of(&[b"a", b"bc"]));
        assert_ne!(hash.of(&[b"abc"]), hash.of(&[b"abc", b""]));
    }

    #[test]
    fn another_key_or_purpose_gives_another_hash() {
        let hash = KeyedHash::new(&[7; 32]);
        assert_ne!(hash.of(&[b"a"]), KeyedHash::new(&[8; 32]).of(&[b"a"]));
        assert_ne!(hash.derive("x").of(&[b"a"]), hash.derive("y").of(&[b"a"]));
        assert_eq!(hash.derive("x").of(&[b"a"]), hash.derive("x").of(&[b"a"]));
    }
}
