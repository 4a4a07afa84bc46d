//! Transfer encodings (RFC 2045 §6), decoded in blocks.

use std::io;

use memchr::memchr;

use crate::formats::base64_blocks::{Base64Blocks, Base64Error};

/// Octets of quoted-printable that are passed on at once.
const BLOCK_BYTES: usize = 32 * 1024;

/// Content-Transfer-Encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEncoding {
    /// 7bit, 8bit, binary: as it is.
    Identity,
    /// base64, in lines of any length, also in one.
    Base64,
    /// quoted-printable.
    QuotedPrintable,
    /// Another word: such a part cannot be decoded (RFC 2045 §6.4).
    Unknown,
}

impl TransferEncoding {
    pub(super) fn read(value: &[u8]) -> Self {
        // A comment after the word is legal (SM-57).
        let word = value.split(|octet| matches!(octet, b'(' | b';')).next();
        let word = word.unwrap_or_default().trim_ascii();
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("base64") => Self::Base64,
            () if is("quoted-printable") => Self::QuotedPrintable,
            () if word.is_empty() || is("7bit") || is("8bit") || is("binary") => Self::Identity,
            () => Self::Unknown,
        }
    }
}

/// Why a part cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The base64 is cut short, or goes on after its padding (SM-55).
    #[error("SM-55: the base64 is cut short or goes on after its end; it must be whole")]
    Base64,
    /// An encoding that is not known.
    #[error(
        "an unknown transfer encoding; base64, quoted-printable, 7bit, 8bit and binary are read"
    )]
    Encoding,
    /// More octets than allowed.
    #[error("LIM-2: the part has more than {max_bytes} octets")]
    TooLarge {
        /// What would be accepted.
        max_bytes: u64,
    },
    /// Whoever takes the octets failed.
    #[error("a decoded part could not be passed on")]
    Io(#[from] io::Error),
}

/// Decodes `body` and hands it on in blocks.
pub(super) fn decode(
    body: &[u8],
    encoding: TransferEncoding,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DecodeError> {
    match encoding {
        TransferEncoding::Identity => Ok(out(body)?),
        TransferEncoding::Base64 => decode_base64(body, out),
        TransferEncoding::QuotedPrintable => decode_quoted_printable(body, out),
        TransferEncoding::Unknown => Err(DecodeError::Encoding),
    }
}

fn decode_base64(
    text: &[u8],
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DecodeError> {
    let mut lines = Base64Lines::for_text(text.len());
    lines.feed(text, out)?;
    lines.finish(out)
}

/// Decodes base64 that comes in pieces, in lines of any length. Characters outside the alphabet are passed over (SM-55);
/// nothing of it may follow the padding.
pub(in crate::formats) struct Base64Lines(Base64Blocks);

impl Base64Lines {
    /// A decoder for about so many characters.
    pub(in crate::formats) fn for_text(chars: usize) -> Self {
        Self(Base64Blocks::for_text(chars))
    }

    /// Takes more text and passes on what it makes.
    pub(in crate::formats) fn feed(
        &mut self,
        mut text: &[u8],
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), DecodeError> {
        while !text.is_empty() {
            let end = memchr(b'\n', text).map_or(text.len(), |end| end + 1);
            let (line, rest) = text.split_at(end);
            text = rest;
            let run = line.strip_suffix(b"\n").unwrap_or(line);
            let run = run.strip_suffix(b"\r").unwrap_or(run);
            if is_all_base64(run) {
                self.0.push(run, out)?;
            } else {
                for run in run.split(|octet| !is_base64(*octet)) {
                    self.0.push(run, out)?;
                }
            }
        }
        Ok(())
    }

    /// The text has ended.
    pub(in crate::formats) fn finish(
        &mut self,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), DecodeError> {
        Ok(self.0.finish(out)?)
    }
}

impl From<Base64Error> for DecodeError {
    fn from(error: Base64Error) -> Self {
        match error {
            Base64Error::NotBase64 => Self::Base64,
            Base64Error::Sink(error) => Self::Io(error),
        }
    }
}

fn is_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=')
}

/// Without a branch for each octet, so that the compiler may look at many at once.
fn is_all_base64(octets: &[u8]) -> bool {
    octets.iter().fold(true, |all, octet| {
        let is_letter = (octet | 0x20).wrapping_sub(b'a') < 26;
        let is_digit = octet.wrapping_sub(b'0') < 10;
        all & (is_letter | is_digit | (*octet == b'+') | (*octet == b'/') | (*octet == b'='))
    })
}

/// What is no code stays as it is; white space before a line end was added on the way and goes (RFC 2045 §6.7).
fn decode_quoted_printable(
    text: &[u8],
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DecodeError> {
    let mut octets = Vec::with_capacity(BLOCK_BYTES.min(text.len()));
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let (content, end) = match line {
            [content @ .., b'\r', b'\n'] => (content, &b"\r\n"[..]),
            [content @ .., b'\n'] => (content, &b"\n"[..]),
            content => (content, &b""[..]),
        };
        let mut rest = content.trim_ascii_end();
        let is_soft = rest.ends_with(b"=");
        if is_soft {
            rest = rest.get(..rest.len() - 1).unwrap_or_default();
        }
        while let Some(at) = memchr(b'=', rest) {
            let (plain, code) = rest.split_at(at);
            push(&mut octets, plain, out)?;
            let value = match code {
                [_, high, low, ..] => hex(*high).zip(hex(*low)),
                _ => None,
            };
            match value {
                Some((high, low)) => {
                    push(&mut octets, &[high << 4 | low], out)?;
                    rest = code.get(3..).unwrap_or_default();
                }
                None => {
                    push(&mut octets, b"=", out)?;
                    rest = code.get(1..).unwrap_or_default();
                }
            }
        }
        push(&mut octets, rest, out)?;
        if !is_soft {
            push(&mut octets, end, out)?;
        }
    }
    Ok(out(&octets)?)
}

fn push(
    octets: &mut Vec<u8>,
    more: &[u8],
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    octets.extend_from_slice(more);
    if octets.len() >= BLOCK_BYTES {
        out(octets)?;
        octets.clear();
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use base64_simd::STANDARD;

    use super::*;

    fn decoded(text: &[u8], encoding: TransferEncoding) -> Result<Vec<u8>, DecodeError> {
        let mut octets = Vec::new();
        decode(text, encoding, &mut |block| {
            octets.extend_from_slice(block);
            Ok(())
        })?;
        Ok(octets)
    }

    // rule: SM-55
    #[test]
    fn base64_is_read_in_lines_in_one_line_and_with_stray_characters() {
        for text in [
            "AQID\r\nBA==\r\n",
            "AQIDBA==",
            "AQ!I D\tBA==\n\n",
            "A\nQ\nI\nD\nBA==",
        ] {
            let octets = decoded(text.as_bytes(), TransferEncoding::Base64).unwrap();
            assert_eq!(octets, [1, 2, 3, 4], "{text}");
        }
        let long = vec![7u8; 1_000_000];
        let one_line = STANDARD.encode_to_string(&long);
        let octets = decoded(one_line.as_bytes(), TransferEncoding::Base64).unwrap();
        assert!(octets == long);
        assert_eq!(decoded(b"", TransferEncoding::Base64).unwrap(), [0u8; 0]);
    }

    // rule: SM-55
    #[test]
    fn base64_that_is_cut_or_goes_on_after_its_padding_is_refused() {
        for text in ["AQIDBA", "AQIDBA==AQID", "AQ=DBA==", "A"] {
            let result = decoded(text.as_bytes(), TransferEncoding::Base64);
            assert!(matches!(result, Err(DecodeError::Base64)), "{text}");
        }
    }

    // rule: SM-55
    #[test]
    fn base64_in_pieces_of_any_size_is_the_same() {
        let octets: Vec<u8> = (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect();
        let one_line = STANDARD.encode_to_string(&octets);
        let broken: Vec<&[u8]> = one_line.as_bytes().chunks(76).collect();
        let odd = [b" \r".as_slice(), one_line.as_bytes(), b"\r\r\n \t"].concat();
        for text in [broken.join(&b"\r\n"[..]), broken.join(&b"\n"[..]), odd] {
            for size in [1, 3, 77, 1000, 65_536] {
                let mut lines = Base64Lines::for_text(usize::MAX);
                let mut read = Vec::new();
                let mut out = |block: &[u8]| {
                    read.extend_from_slice(block);
                    Ok(())
                };
                for piece in text.chunks(size) {
                    lines.feed(piece, &mut out).unwrap();
                }
                lines.finish(&mut out).unwrap();
                assert!(read == octets, "{size}");
            }
        }
    }

    #[test]
    fn the_alphabet_is_the_same_for_one_octet_and_for_many() {
        for octet in 0..=255 {
            assert_eq!(is_all_base64(&[b'A', octet]), is_base64(octet), "{octet}");
        }
    }

    // rule: WR-9
    #[test]
    fn quoted_printable_is_read_and_what_is_no_code_stays() {
        let text = b"a=3D1 \r\nsoft=\r\n break=20\t\nbad =G1 =4 =\n";
        let octets = decoded(text, TransferEncoding::QuotedPrintable).unwrap();
        assert_eq!(octets, b"a=1\r\nsoft break \nbad =G1 =4 ");
    }
}
