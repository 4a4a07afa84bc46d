//! How a body is written: a header, then chunks of 64 KiB, each under a tag of its own. A tag covers the body's id,
//! the chunk's index and whether it is the last one, so chunks that are altered, exchanged, moved, left out or added
//! are found before any octet of theirs is given out.
//!
//! ```text
//! header  4 "XDB" 0x01 | 1 kind | 3 zero | 8 key id | 16 body id
//! chunk   up to 65,536 octets of content | tag
//! ```
//!
//! Kind 1 is AES-256-GCM, kind 2 keeps the content as it is under GMAC, which is AES-256-GCM with nothing to encrypt
//! (NIST SP 800-38D §3) and costs some third of a keyed SHA-256. The key is derived for each body, so the chunk's index
//! can be the nonce. Only the last chunk is shorter than 65,536
//! octets, and only an empty body has an empty one.

use std::io::{self, Read};

use openssl::symm::{Cipher, Crypter, Mode};
use zeroize::Zeroizing;

use super::{
    failure::store_error,
    keys::{KEY_ID_BYTES, Key, KeyRing, NONCE_BYTES, TAG_BYTES},
};
use crate::{flows::ports::StoreError, formats::ids::BodyId};

/// Octets of content in every chunk but the last.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// Octets of the header.
pub(super) const HEADER_BYTES: usize = 32;
const MAGIC: [u8; 4] = *b"XDB\x01";

/// What protects the chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// AES-256-GCM.
    Encrypted,
    /// GMAC over content that is ciphertext already.
    Authenticated,
}

impl Protection {
    fn octet(self) -> u8 {
        match self {
            Self::Encrypted => 1,
            Self::Authenticated => 2,
        }
    }
}

/// The secret side of one body: seals and opens its chunks by index.
struct ChunkKey {
    protection: Protection,
    header: [u8; HEADER_BYTES],
    key: Zeroizing<[u8; 32]>,
}

impl ChunkKey {
    fn new(key: &Key, protection: Protection, id: BodyId) -> Self {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = protection.octet();
        header[8..16].copy_from_slice(&key.id);
        header[16..].copy_from_slice(id.0.as_bytes());
        let key = Zeroizing::new(key.bodies.of(&[&header]));
        Self {
            protection,
            header,
            key,
        }
    }

    fn context(&self, index: u64, is_last: bool) -> [u8; HEADER_BYTES + 9] {
        let mut context = [0; HEADER_BYTES + 9];
        context[..HEADER_BYTES].copy_from_slice(&self.header);
        context[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&index.to_be_bytes());
        context[HEADER_BYTES + 8] = u8::from(is_last);
        context
    }

    /// Puts the chunk with this content into `sealed`, in place of what was there.
    fn seal(
        &self,
        index: u64,
        is_last: bool,
        content: &[u8],
        sealed: &mut Vec<u8>,
    ) -> io::Result<()> {
        let context = self.context(index, is_last);
        // What is there already is overwritten, not cleared first.
        sealed.resize(content.len() + TAG_BYTES, 0);
        match self.protection {
            Protection::Encrypted => {
                let mut gcm = self.gcm(Mode::Encrypt, index)?;
                gcm.aad_update(&context)?;
                let length = gcm.update(content, sealed)?;
                let (_, tag) = sealed.split_at_mut(length);
                gcm.finalize(tag)?;
                gcm.get_tag(tag)?;
            }
            Protection::Authenticated => {
                let (copy, tag) = sealed.split_at_mut(content.len());
                copy.copy_from_slice(content);
                tag.copy_from_slice(&self.gmac(index, &context, content)?);
            }
        }
        Ok(())
    }

    /// Puts the content of a chunk into `content`; false, and nothing in it, if the chunk is not as it was written. What
    /// becomes of `sealed` does not matter: the two are exchanged where the content is no secret.
    fn open(
        &self,
        index: u64,
        is_last: bool,
        sealed: &mut Vec<u8>,
        content: &mut Zeroizing<Vec<u8>>,
    ) -> bool {
        let context = self.context(index, is_last);
        let is_intact = match self.protection {
            Protection::Encrypted => self.decrypt(index, &context, sealed, content),
            Protection::Authenticated => self.check(index, &context, sealed).map(|length| {
                sealed.truncate(length);
                std::mem::swap(sealed, &mut **content);
            }),
        }
        .is_some();
        if !is_intact {
            content.clear();
        }
        is_intact
    }

    fn decrypt(
        &self,
        index: u64,
        context: &[u8],
        sealed: &[u8],
        content: &mut Zeroizing<Vec<u8>>,
    ) -> Option<()> {
        let (hidden, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        // OpenSSL's face asks for room for one octet more. A larger buffer is a new one: a reallocation would leave the
        // old content in the heap.
        let room = hidden.len() + 1;
        if content.capacity() < room {
            *content = Zeroizing::new(Vec::with_capacity(room));
        }
        content.resize(room, 0);
        let mut gcm = self.gcm(Mode::Decrypt, index).ok()?;
        gcm.aad_update(context).ok()?;
        gcm.set_tag(tag).ok()?;
        let length = gcm.update(hidden, content).ok()?;
        gcm.finalize(content.get_mut(length..)?).ok()?;
        content.truncate(length);
        Some(())
    }

    /// The length of the content, if the tag after it is its own.
    fn check(&self, index: u64, context: &[u8], sealed: &[u8]) -> Option<usize> {
        let (content, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let mac = self.gmac(index, context, content).ok()?;
        openssl::memcmp::eq(&mac, tag).then_some(content.len())
    }

    fn gcm(&self, mode: Mode, index: u64) -> Result<Crypter, openssl::error::ErrorStack> {
        Crypter::new(Cipher::aes_256_gcm(), mode, &*self.key, Some(&nonce(index)))
    }

    /// The tag of GMAC over both parts. A nonce is used once for each key: a chunk is written once.
    fn gmac(
        &self,
        index: u64,
        context: &[u8],
        content: &[u8],
    ) -> Result<[u8; TAG_BYTES], openssl::error::ErrorStack> {
        let mut gcm = self.gcm(Mode::Encrypt, index)?;
        gcm.aad_update(context)?;
        gcm.aad_update(content)?;
        gcm.finalize(&mut [0; TAG_BYTES])?;
        let mut tag = [0; TAG_BYTES];
        gcm.get_tag(&mut tag)?;
        Ok(tag)
    }
}

fn nonce(index: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[NONCE_BYTES - 8..].copy_from_slice(&index.to_be_bytes());
    nonce
}

/// Makes the octets of one body, chunk by chunk.
pub(super) struct ChunkSealer {
    key: ChunkKey,
    next_index: u64,
    /// The chunk that was made last: its memory serves for the next.
    sealed: Vec<u8>,
}

impl ChunkSealer {
    /// A body under the current key.
    pub(super) fn new(keys: &KeyRing, protection: Protection, id: BodyId) -> Self {
        Self {
            key: ChunkKey::new(keys.current(), protection, id),
            next_index: 0,
            sealed: Vec::new(),
        }
    }

    /// What comes first.
    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        self.key.header
    }

    /// The next chunk.
    pub(super) fn seal(&mut self, content: &[u8], is_last: bool) -> io::Result<&[u8]> {
        let index = self.next_index;
        self.key.seal(index, is_last, content, &mut self.sealed)?;
        self.next_index += 1;
        Ok(&self.sealed)
    }
}

/// Reads one body. The first damage ends it: this read and every later one fail with
/// [`StoreError::DamagedBody`] inside an [`io::Error`], and nothing of the damaged chunk is given out.
pub(super) struct ChunkReader<R> {
    id: BodyId,
    key: ChunkKey,
    source: R,
    left_bytes: u64,
    next_index: u64,
    /// The chunk as it was read: its memory serves for the next.
    sealed: Vec<u8>,
    /// Its content.
    chunk: Zeroizing<Vec<u8>>,
    given: usize,
    is_ended: bool,
    damage: Option<&'static str>,
}

impl<R: Read> ChunkReader<R> {
    /// Reads the header. `length` is that of the source, from which the place of the last chunk follows.
    pub(super) fn new(
        keys: &KeyRing,
        id: BodyId,
        mut source: R,
        length: u64,
    ) -> Result<Self, StoreError> {
        let damaged = |what| StoreError::DamagedBody { body: id, what };
        let left_bytes = length
            .checked_sub(HEADER_BYTES as u64)
            .ok_or_else(|| damaged("it is shorter than its header"))?;
        let mut header = [0; HEADER_BYTES];
        source
            .read_exact(&mut header)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => damaged("it is shorter than its header"),
                _ => store_error(error),
            })?;
        let protection = match header[4] {
            1 => Protection::Encrypted,
            2 => Protection::Authenticated,
            _ => return Err(damaged("its header is not as it was written")),
        };
        let key = keys.find(&header[8..8 + KEY_ID_BYTES]).ok_or_else(|| {
            damaged("it was written under a key that store.key_files does not name")
        })?;
        let key = ChunkKey::new(key, protection, id);
        if key.header != header {
            return Err(damaged("its header is not as it was written"));
        }
        Ok(Self {
            id,
            key,
            source,
            left_bytes,
            next_index: 0,
            sealed: Vec::new(),
            chunk: Zeroizing::default(),
            given: 0,
            is_ended: false,
            damage: None,
        })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let full_bytes = CHUNK_BYTES + TAG_BYTES;
        let take = self.left_bytes.min(full_bytes as u64);
        self.left_bytes -= take;
        let is_last = self.left_bytes == 0;
        // At most `full_bytes`.
        self.sealed.resize(take as usize, 0);
        match self.source.read_exact(&mut self.sealed) {
            // It was shortened while it was read: what came is no whole chunk.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.sealed.clear(),
            read => read?,
        }
        let (index, sealed) = (self.next_index, &mut self.sealed);
        if !self.key.open(index, is_last, sealed, &mut self.chunk) {
            return Err(self.fail(if is_last {
                "its last chunk is altered, or it was shortened or extended"
            } else {
                "a chunk is not as it was written"
            }));
        }
        self.given = 0;
        self.next_index += 1;
        self.is_ended = is_last;
        Ok(())
    }

    fn fail(&mut self, what: &'static str) -> io::Error {
        self.damage = Some(what);
        let error = StoreError::DamagedBody {
            body: self.id,
            what,
        };
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl<R: Read> Read for ChunkReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(what) = self.damage {
            return Err(self.fail(what));
        }
        if into.is_empty() {
            return Ok(0);
        }
        while self.given == self.chunk.len() {
            if self.is_ended {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let ready = self.chunk.get(self.given..).unwrap_or_default();
        let count = ready.len().min(into.len());
        into[..count].copy_from_slice(&ready[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [Protection; 2] = [Protection::Encrypted, Protection::Authenticated];

    fn ring() -> KeyRing {
        KeyRing::of_octets(&[[1; 32]])
    }

    fn write(protection: Protection, id: BodyId, content: &[u8]) -> Vec<u8> {
        let mut sealer = ChunkSealer::new(&ring(), protection, id);
        let mut octets = sealer.header().to_vec();
        let mut chunks = content.chunks(CHUNK_BYTES).peekable();
        if chunks.peek().is_none() {
            octets.extend_from_slice(sealer.seal(&[], true).unwrap());
        }
        while let Some(chunk) = chunks.next() {
            octets.extend_from_slice(sealer.seal(chunk, chunks.peek().is_none()).unwrap());
        }
        octets
    }

    /// What was given out, and how it ended.
    fn read(id: BodyId, octets: &[u8]) -> (Vec<u8>, Result<(), String>) {
        let mut given = Vec::new();
        let result = ChunkReader::new(&ring(), id, octets, octets.len() as u64)
            .map_err(|error| error.to_string())
            .and_then(|mut reader| {
                let ended = reader.read_to_end(&mut given).map_err(|e| e.to_string());
                if ended.is_err() {
                    assert!(reader.read(&mut [0; 10]).is_err(), "damage is for good");
                }
                ended.map(|_| ())
            });
        (given, result)
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 31 % 251) as u8).collect()
    }

    #[test]
    fn bodies_of_every_length_around_a_chunk_read_back() {
        for length in [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            3 * CHUNK_BYTES,
        ] {
            for protection in BOTH {
                let id = BodyId::random();
                let octets = write(protection, id, &content(length));
                assert_eq!(read(id, &octets), (content(length), Ok(())), "{length}");
            }
        }
    }

    // rule: PHI-5
    #[test]
    fn an_encrypted_body_shows_nothing_of_its_content() {
        let id = BodyId::random();
        let octets = write(Protection::Encrypted, id, &b"Ada Quill ".repeat(20_000));
        assert!(!octets.windows(9).any(|window| window == b"Ada Quill"));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found_before_its_chunk_is_given_out() {
        let whole = content(2 * CHUNK_BYTES + 100);
        for protection in BOTH {
            let id = BodyId::random();
            let octets = write(protection, id, &whole);
            // Every octet of the header and of the edges of each chunk, and a stride through the rest.
            let chunk = CHUNK_BYTES + TAG_BYTES;
            let edges = (0..octets.len()).filter(|at| {
                let in_chunk = at.saturating_sub(HEADER_BYTES) % chunk;
                *at < HEADER_BYTES + 20
                    || in_chunk < 3
                    || in_chunk > chunk - 40
                    || octets.len() - at < 140
                    || at % 4099 == 0
            });
            for at in edges {
                let mut damaged = octets.clone();
                damaged[at] ^= 0x10;
                let (given, result) = read(id, &damaged);
                assert!(result.is_err(), "octet {at}");
                let intact_chunks = at.saturating_sub(HEADER_BYTES) / chunk;
                assert_eq!(given, whole[..intact_chunks * CHUNK_BYTES], "octet {at}");
            }
        }
    }

    #[test]
    fn a_body_that_was_shortened_or_extended_anywhere_is_found() {
        for protection in BOTH {
            let id = BodyId::random();
            let octets = write(protection, id, &content(3 * CHUNK_BYTES));
            let chunk = CHUNK_BYTES + TAG_BYTES;
            let boundary = HEADER_BYTES + 2 * chunk;
            for length in [
                0,
                1,
                HEADER_BYTES,
                HEADER_BYTES + 5,
                HEADER_BYTES + chunk,
                boundary,
            ]
            .into_iter()
            .chain([boundary + 1, octets.len() - 100, octets.len() - 1])
            {
                let (given, result) = read(id, &octets[..length]);
                assert!(result.is_err(), "{length} octets");
                assert!(given.len() < length.max(1), "{length} octets");
            }
            let mut longer = octets.clone();
            longer.push(0);
            assert!(read(id, &longer).1.is_err());
            longer.extend_from_within(HEADER_BYTES..HEADER_BYTES + chunk);
            assert!(read(id, &longer).1.is_err());
        }
    }

    #[test]
    fn chunks_that_were_moved_or_come_from_another_body_are_found() {
        for protection in BOTH {
            let (id, other) = (BodyId::random(), BodyId::random());
            let octets = write(protection, id, &content(3 * CHUNK_BYTES));
            let others = write(protection, other, &content(3 * CHUNK_BYTES));
            let chunk = CHUNK_BYTES + TAG_BYTES;
            let first = HEADER_BYTES..HEADER_BYTES + chunk;
            let second = HEADER_BYTES + chunk..HEADER_BYTES + 2 * chunk;

            let mut swapped = octets.clone();
            swapped[first.clone()].copy_from_slice(&octets[second.clone()]);
            swapped[second.clone()].copy_from_slice(&octets[first.clone()]);
            assert_eq!(read(id, &swapped).0, b"");

            let mut repeated = octets.clone();
            repeated[second.clone()].copy_from_slice(&octets[first.clone()]);
            assert!(read(id, &repeated).1.is_err());

            let mut foreign = octets.clone();
            foreign[second.clone()].copy_from_slice(&others[second]);
            assert!(read(id, &foreign).1.is_err());
            assert!(read(id, &others).1.is_err(), "another body's file");
        }
    }

    #[test]
    fn an_older_key_still_reads_and_an_unknown_one_is_named_as_the_cause() {
        let id = BodyId::random();
        let octets = write(Protection::Encrypted, id, b"x");
        let length = octets.len() as u64;
        let rotated = KeyRing::of_octets(&[[2; 32], [1; 32]]);
        let mut read = Vec::new();
        let mut reader = ChunkReader::new(&rotated, id, octets.as_slice(), length).unwrap();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"x");
        let stranger = KeyRing::of_octets(&[[2; 32]]);
        let error = ChunkReader::new(&stranger, id, octets.as_slice(), length)
            .err()
            .unwrap();
        assert!(error.to_string().contains("store.key_files"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_done_to_a_body_nothing_but_its_true_beginning_is_given_out(
            length in 0..2 * CHUNK_BYTES + 500,
            cut_at in any::<prop::sample::Index>(),
            removed in 0usize..200,
            inserted in proptest::collection::vec(any::<u8>(), 0..200),
            is_encrypted in any::<bool>(),
        ) {
            let protection = BOTH[usize::from(!is_encrypted)];
            let id = BodyId::random();
            let whole = content(length);
            let octets = write(protection, id, &whole);
            let at = cut_at.index(octets.len());
            let mut changed = octets.clone();
            changed.splice(at..(at + removed).min(octets.len()), inserted);
            let (given, result) = read(id, &changed);
            prop_assert!(whole.starts_with(&given));
            prop_assert_eq!(result.is_ok(), changed == octets);
        }
    }
}
