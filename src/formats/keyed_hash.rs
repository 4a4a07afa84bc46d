//! HMAC-SHA-256 (RFC 2104): how an identifier is recognised again where it may not be kept itself (PHI-1, PHI-2).

use std::fmt;

use openssl::sha::Sha256;

/// Octets of one block of SHA-256 (FIPS 180-4).
const BLOCK_BYTES: usize = 64;

/// A key for hashing. `Debug` hides it.
///
/// The two blocks that a key begins with are hashed once: many short texts are hashed for each message, and setting up
/// the library's own HMAC costs several times as much as they do.
#[derive(Clone)]
pub struct KeyedHash {
    inner: Sha256,
    outer: Sha256,
}

impl KeyedHash {
    /// Hashing under `key`.
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            inner: begun(key, 0x36),
            outer: begun(key, 0x5c),
        }
    }

    /// The hash of `parts` in their order. Each is preceded by its length, so that no two lists of parts are taken for
    /// the same.
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = self.inner.clone();
        for part in parts {
            inner.update(&(part.len() as u64).to_be_bytes());
            inner.update(part);
        }
        let mut outer = self.outer.clone();
        outer.update(&inner.finish());
        outer.finish()
    }

    /// A key for another purpose: it tells nothing of this one.
    pub fn derive(&self, purpose: &str) -> Self {
        Self::new(&self.of(&[b"derive", purpose.as_bytes()]))
    }
}

/// SHA-256 after the block that is `key`, filled up with zeros, under `pad` (RFC 2104 section 2).
fn begun(key: &[u8; 32], pad: u8) -> Sha256 {
    let mut block = zeroize::Zeroizing::new([pad; BLOCK_BYTES]);
    for (octet, key) in block.iter_mut().zip(key) {
        *octet ^= key;
    }
    let mut sha = Sha256::new();
    sha.update(block.as_slice());
    sha
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash")
    }
}

#[cfg(test)]
mod tests {
    use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};

    use super::*;

    #[test]
    fn the_hash_is_the_hmac_that_openssl_makes() {
        for (key, part) in [
            ([0x0b; 32], &b"Hi There"[..]),
            ([0; 32], b""),
            ([0xff; 32], &[7; 200]),
        ] {
            let mut signer =
                Signer::new(MessageDigest::sha256(), &PKey::hmac(&key).unwrap()).unwrap();
            signer.update(&(part.len() as u64).to_be_bytes()).unwrap();
            signer.update(part).unwrap();
            let hash = KeyedHash::new(&key).of(&[part]);
            assert_eq!(hash.as_slice(), signer.sign_to_vec().unwrap());
        }
    }

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
