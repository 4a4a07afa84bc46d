//! The keys of the store. One file holds one master key; everything in use is derived from it by purpose.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use openssl::symm::{self, Cipher};
use zeroize::Zeroizing;

use crate::formats::keyed_hash::KeyedHash;

/// Octets of a key id: enough to tell a handful of keys apart.
pub(super) const KEY_ID_BYTES: usize = 8;
/// Octets of an AES-256-GCM tag (NIST SP 800-38D §5.2.1.2).
pub(super) const TAG_BYTES: usize = 16;
/// Octets of an AES-256-GCM nonce.
pub(super) const NONCE_BYTES: usize = 12;

/// Longest key file: base64 of 32 octets takes 44, hexadecimal 64.
const MAX_KEY_FILE_BYTES: u64 = 256;
/// First octet of a sealed row.
const ROW_VERSION: u8 = 1;
const ROW_HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;

/// Why a key file cannot be used. The file's content is never told.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("key file {} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner may read it (KEY-1).
    #[error("key file {} has mode {mode:04o}: others may read it; allowed are 0600 and 0400", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else than a key.
    #[error(
        "key file {} holds no key: write 32 random octets as 64 hexadecimal digits or as base64",
        path.display()
    )]
    Form {
        /// Which.
        path: PathBuf,
    },
    /// Two files hold the same key.
    #[error("key file {} repeats a key of another file", path.display())]
    Repeated {
        /// Which.
        path: PathBuf,
    },
    /// No file is named.
    #[error("store.key_files names no file: one key is needed to encrypt what is stored")]
    Missing,
}

/// A fresh key in the form of a key file: 64 hexadecimal digits and a line end.
pub fn new_key_text() -> Result<Zeroizing<String>, openssl::error::ErrorStack> {
    let mut octets = Zeroizing::new([0; 32]);
    openssl::rand::rand_bytes(octets.as_mut())?;
    let digits = Zeroizing::new(crate::formats::document::hex(octets.as_ref()));
    Ok(Zeroizing::new(format!("{}\n", digits.as_str())))
}

/// All keys that are known. The first one writes, all of them read.
pub(super) struct KeyRing {
    keys: Vec<Key>,
}

/// One master key, as keys by purpose.
pub(super) struct Key {
    pub(super) id: [u8; KEY_ID_BYTES],
    pub(super) rows: KeyedHash,
    pub(super) bodies: KeyedHash,
    pub(super) lookups: KeyedHash,
    pub(super) chain: KeyedHash,
    pub(super) other: KeyedHash,
}

/// A sealed value is not as it was written, or its key is not among those configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsealable {
    #[error("a sealed row was written under a key that store.key_files does not name")]
    UnknownKey,
    #[error("a sealed row is not as it was written")]
    Altered,
}

impl KeyRing {
    /// Reads the key files, the writing key first.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, KeyFileError> {
        let mut keys: Vec<Key> = Vec::new();
        for path in paths {
            let key = Key::new(&*read_key(path)?);
            if keys.iter().any(|known| known.id == key.id) {
                return Err(KeyFileError::Repeated { path: path.clone() });
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyFileError::Missing);
        }
        Ok(Self { keys })
    }

    #[cfg(test)]
    pub(super) fn of_octets(octets: &[[u8; 32]]) -> Self {
        let keys = octets.iter().map(Key::new).collect();
        Self { keys }
    }

    /// The key that writes.
    pub(super) fn current(&self) -> &Key {
        self.keys.first().expect("a ring without keys is refused")
    }

    /// The key with this id.
    pub(super) fn find(&self, id: &[u8]) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// All keys, the writing one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Encrypts a row. `context` says which row it is: in any other one the result cannot be opened.
    pub(super) fn seal(
        &self,
        context: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, openssl::error::ErrorStack> {
        let key = self.current();
        let mut nonce = [0; NONCE_BYTES];
        openssl::rand::rand_bytes(&mut nonce)?;
        let mut tag = [0; TAG_BYTES];
        // A key for each row: random nonces under one key would be worn out after 2^32 rows (SP 800-38D §8.3).
        let row_key = Zeroizing::new(key.rows.of(&[context]));
        let cipher = Cipher::aes_256_gcm();
        let hidden = symm::encrypt_aead(cipher, &*row_key, Some(&nonce), context, plain, &mut tag)?;
        let mut sealed = Vec::with_capacity(ROW_HEADER_BYTES + hidden.len() + TAG_BYTES);
        sealed.push(ROW_VERSION);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&hidden);
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Decrypts the row of this `context`.
    pub(super) fn unseal(
        &self,
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (header, rest) = sealed
            .split_first_chunk::<ROW_HEADER_BYTES>()
            .ok_or(Unsealable::Altered)?;
        let (hidden, tag) = rest
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(Unsealable::Altered)?;
        let (version, header) = header.split_first().ok_or(Unsealable::Altered)?;
        let (key_id, nonce) = header.split_at(KEY_ID_BYTES);
        if *version != ROW_VERSION {
            return Err(Unsealable::Altered);
        }
        let key = self.find(key_id).ok_or(Unsealable::UnknownKey)?;
        let row_key = Zeroizing::new(key.rows.of(&[context]));
        let cipher = Cipher::aes_256_gcm();
        symm::decrypt_aead(cipher, &*row_key, Some(nonce), context, hidden, tag)
            .map(Zeroizing::new)
            .map_err(|_| Unsealable::Altered)
    }
}

impl Key {
    fn new(master: &[u8; 32]) -> Self {
        let master = KeyedHash::new(master);
        let [a, b, c, d, e, f, g, h, ..] = master.of(&[b"key id"]);
        Self {
            id: [a, b, c, d, e, f, g, h],
            rows: master.derive("rows"),
            bodies: master.derive("bodies"),
            lookups: master.derive("look-ups"),
            chain: master.derive("audit chain"),
            other: master.derive("other"),
        }
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(KeyFileError::Exposed { path, mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES as usize));
    file.take(MAX_KEY_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    parse_key(text.trim()).ok_or_else(|| KeyFileError::Form {
        path: path.to_owned(),
    })
}

fn parse_key(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut octets = Zeroizing::new([0; 32]);
    if text.len() == 64 {
        for (octet, pair) in octets.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            let is_hex = pair.bytes().all(|b| b.is_ascii_hexdigit());
            *octet = u8::from_str_radix(pair, 16).ok().filter(|_| is_hex)?;
        }
        return Some(octets);
    }
    let decoded = base64_simd::STANDARD
        .decode_to_vec(text.as_bytes())
        .map(Zeroizing::new)
        .ok()?;
    *octets = decoded.as_slice().try_into().ok()?;
    Some(octets)
}

/// Writes a fresh key to a new file with mode 0600.
pub fn create_key_file(path: &Path) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let text = new_key_text().map_err(std::io::Error::other)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
