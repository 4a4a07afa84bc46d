//! Transfer encodings (RFC 2045 §6), decoded in blocks.

use std::io;

use base64_simd::{Out, STANDARD};

/// Characters that are decoded at once; a multiple of four.
const BLOCK_CHARS: usize = 32 * 1024;

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

/// Characters outside the alphabet are passed over (SM-55).
fn decode_base64(
    mut text: &[u8],
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DecodeError> {
    let most = BLOCK_CHARS.min(text.len().next_multiple_of(4));
    let mut chars = Vec::with_capacity(most);
    let mut octets = vec![0; most / 4 * 3];
    let mut has_ended = false;
    while !text.is_empty() {
        let skipped = text.iter().position(|octet| is_base64(*octet));
        text = text
            .get(skipped.unwrap_or(text.len())..)
            .unwrap_or_default();
        let room = most - chars.len();
        let window = text.get(..room).unwrap_or(text);
        let run = window.iter().position(|octet| !is_base64(*octet));
        let (taken, rest) = text.split_at(run.unwrap_or(window.len()));
        chars.extend_from_slice(taken);
        text = rest;
        if chars.len() == most {
            decode_block(&mut chars, &mut octets, &mut has_ended, out)?;
        }
    }
    decode_block(&mut chars, &mut octets, &mut has_ended, out)
}

fn decode_block(
    chars: &mut Vec<u8>,
    octets: &mut [u8],
    has_ended: &mut bool,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DecodeError> {
    if chars.is_empty() {
        return Ok(());
    }
    if *has_ended {
        return Err(DecodeError::Base64);
    }
    *has_ended = chars.ends_with(b"=");
    let decoded = STANDARD
        .decode(chars, Out::from_slice(octets))
        .map_err(|_| DecodeError::Base64)?;
    out(decoded)?;
    chars.clear();
    Ok(())
}

fn is_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=')
}

/// What is no code stays as it is; white space before a line end was added on the way and goes (RFC 2045 §6.7).
fn decode_quoted_printable(
    text: &[u8],
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DecodeError> {
    let mut octets = Vec::with_capacity(BLOCK_CHARS.min(text.len()));
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
        while let Some(at) = memchr::memchr(b'=', rest) {
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
    if octets.len() >= BLOCK_CHARS {
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

    // rule: WR-9
    #[test]
    fn quoted_printable_is_read_and_what_is_no_code_stays() {
        let text = b"a=3D1 \r\nsoft=\r\n break=20\t\nbad =G1 =4 =\n";
        let octets = decoded(text, TransferEncoding::QuotedPrintable).unwrap();
        assert_eq!(octets, b"a=1\r\nsoft break \nbad =G1 =4 ");
    }
}
