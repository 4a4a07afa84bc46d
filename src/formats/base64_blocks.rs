//! base64 decoded in blocks while it comes, by those who know what may stand between its characters.

use std::io;

use base64_simd::{Out, STANDARD};

/// Characters that are decoded at once; a multiple of four.
const BLOCK_CHARS: usize = 32 * 1024;

/// Why decoding stopped.
#[derive(Debug)]
pub(crate) enum Base64Error {
    /// Not base64, or its padding is missing or not its end.
    NotBase64,
    /// Whoever takes the octets failed.
    Sink(io::Error),
}

/// Joins the runs of characters of one text to blocks and decodes each. Padding is required, and ends the text.
pub(crate) struct Base64Blocks {
    chars: Vec<u8>,
    /// Characters that are decoded at once.
    most: usize,
    octets: Vec<u8>,
    has_ended: bool,
}

impl Base64Blocks {
    /// A decoder for text of any length.
    pub(crate) fn new() -> Self {
        Self::for_text(BLOCK_CHARS)
    }

    /// A decoder that takes no more room than text of so many characters needs.
    pub(crate) fn for_text(chars: usize) -> Self {
        let most = chars.clamp(4, BLOCK_CHARS).next_multiple_of(4);
        Self {
            chars: Vec::with_capacity(most),
            most,
            octets: vec![0; most / 4 * 3],
            has_ended: false,
        }
    }

    /// Takes characters with nothing between them, and passes on what they make.
    pub(crate) fn push(
        &mut self,
        mut run: &[u8],
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Base64Error> {
        while !run.is_empty() {
            let room = self.most - self.chars.len();
            let (taken, rest) = run.split_at_checked(room).unwrap_or((run, &[]));
            self.chars.extend_from_slice(taken);
            run = rest;
            if self.chars.len() == self.most {
                self.decode(out)?;
            }
        }
        Ok(())
    }

    /// The text has ended.
    pub(crate) fn finish(
        &mut self,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Base64Error> {
        self.decode(out)
    }

    fn decode(&mut self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), Base64Error> {
        if self.chars.is_empty() {
            return Ok(());
        }
        if self.has_ended {
            return Err(Base64Error::NotBase64);
        }
        self.has_ended = self.chars.ends_with(b"=");
        let octets = STANDARD
            .decode(&self.chars, Out::from_slice(&mut self.octets))
            .map_err(|_| Base64Error::NotBase64)?;
        out(octets).map_err(Base64Error::Sink)?;
        self.chars.clear();
        Ok(())
    }
}
