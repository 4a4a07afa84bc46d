//! base64 in blocks: decoded as it comes (SOAP-29, SOAP-161), encoded in one line for an XML document.

use std::io::{self, Write};

use base64_simd::{Out, STANDARD};

use crate::formats::{
    base64_blocks::{Base64Blocks, Base64Error},
    xml::chars::is_space,
};

/// Octets that are encoded at once; a multiple of three.
const BLOCK_BYTES: usize = 24 * 1024;

/// Decodes text piece by piece. White space is dropped; padding is required and ends the text.
pub(crate) struct Base64Decoder(Base64Blocks);

impl Base64Decoder {
    pub(crate) fn new() -> Self {
        Self(Base64Blocks::new())
    }

    /// Takes more text and passes on what it makes.
    pub(crate) fn feed(
        &mut self,
        text: &[u8],
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Base64Error> {
        // Space, tab, CR and LF; lines of 76 characters make long runs.
        text.split(|octet| is_space(*octet))
            .try_for_each(|run| self.0.push(run, out))
    }

    /// The text has ended.
    pub(crate) fn finish(
        mut self,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Base64Error> {
        self.0.finish(out)
    }
}

/// Encodes what is written to it in one line. [`Base64OneLine::finish`] writes the padding.
pub(crate) struct Base64OneLine<W: Write> {
    out: W,
    pending: Vec<u8>,
    text: Vec<u8>,
}

impl<W: Write> Base64OneLine<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            pending: Vec::with_capacity(BLOCK_BYTES),
            text: vec![0; BLOCK_BYTES / 3 * 4],
        }
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.encode_pending()?;
        Ok(self.out)
    }

    fn encode_pending(&mut self) -> io::Result<()> {
        let text = STANDARD.encode(&self.pending, Out::from_slice(&mut self.text));
        self.out.write_all(text)?;
        self.pending.clear();
        Ok(())
    }
}

impl Base64OneLine<Vec<u8>> {
    /// What was encoded since the last call.
    pub(crate) fn take_encoded(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

impl<W: Write> Write for Base64OneLine<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let taken = octets.len().min(BLOCK_BYTES - self.pending.len());
        self.pending
            .extend_from_slice(octets.get(..taken).unwrap_or_default());
        if self.pending.len() == BLOCK_BYTES {
            self.encode_pending()?;
        }
        Ok(taken)
    }

    /// Passes on whole blocks only.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(text: &[u8], cut: usize) -> Result<Vec<u8>, Base64Error> {
        let mut octets = Vec::new();
        let mut decoder = Base64Decoder::new();
        let mut out = |piece: &[u8]| {
            octets.extend_from_slice(piece);
            Ok(())
        };
        for piece in text.chunks(cut) {
            decoder.feed(piece, &mut out)?;
        }
        decoder.finish(&mut out)?;
        Ok(octets)
    }

    proptest! {
        // rule: SOAP-29
        #[test]
        fn what_is_encoded_decodes_however_it_is_cut_and_broken(
            octets in proptest::collection::vec(any::<u8>(), 0..300),
            cut in 1usize..50,
            column in 1usize..90,
        ) {
            let mut encoder = Base64OneLine::new(Vec::new());
            for piece in octets.chunks(cut) {
                encoder.write_all(piece).unwrap();
            }
            let text = encoder.finish().unwrap();
            let broken: Vec<u8> = text.chunks(column).flat_map(|line| [line, b"\r\n\t "].concat()).collect();
            prop_assert_eq!(decode(&broken, cut).unwrap(), octets);
        }
    }

    #[test]
    fn blocks_join_without_a_seam() {
        let octets: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let text = STANDARD.encode_to_string(&octets);
        assert_eq!(decode(text.as_bytes(), 7_001).unwrap(), octets);
    }

    // rule: SOAP-29
    #[test]
    fn wrong_padding_and_foreign_characters_are_refused() {
        for text in [
            "QQ", "QQ=", "QQ==QQ==", "Q Q = =x", "Q\u{0}Q=", "QQ-_", "====",
        ] {
            assert!(
                matches!(decode(text.as_bytes(), 3), Err(Base64Error::NotBase64)),
                "{text}"
            );
        }
        assert_eq!(decode(b" \r\n", 1).unwrap(), b"");
    }
}
