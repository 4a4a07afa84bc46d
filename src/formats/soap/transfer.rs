//! Content-Transfer-Encodings of MTOM parts (SOAP-26).

use std::io::{self, BufRead, Read};

use super::{base64::Base64Decoder, multipart::malformed};
use crate::formats::base64_blocks::Base64Error;

/// Longest line of quoted-printable that is looked at, without its line end. RFC 2045 allows 76; the slack is for
/// writers that do not count.
const MAX_LINE_BYTES: usize = 4096;

/// Decodes one part as it comes.
pub(crate) enum TransferDecoder {
    /// binary, 8bit, 7bit, or not said: octets as they are.
    Identity,
    Base64(Base64Decoder),
    QuotedPrintable(Vec<u8>),
}

impl TransferDecoder {
    /// The decoder of a Content-Transfer-Encoding field; `None` for an unknown one.
    pub(crate) fn of(field: Option<&str>) -> Option<Self> {
        match field
            .unwrap_or("binary")
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "binary" | "8bit" | "7bit" => Some(Self::Identity),
            "base64" => Some(Self::Base64(Base64Decoder::new())),
            "quoted-printable" => Some(Self::QuotedPrintable(Vec::new())),
            _ => None,
        }
    }

    /// Takes more of the part and passes on what it makes. An error of `out` comes back as it is; what cannot be
    /// decoded is a malformed package.
    pub(crate) fn feed(
        &mut self,
        octets: &[u8],
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Base64Error> {
        match self {
            Self::Identity => out(octets).map_err(Base64Error::Sink),
            Self::Base64(decoder) => decoder.feed(octets, out),
            Self::QuotedPrintable(line) => {
                for piece in octets.split_inclusive(|b| *b == b'\n') {
                    line.extend_from_slice(piece);
                    if line.len() > MAX_LINE_BYTES {
                        return Err(Base64Error::NotBase64);
                    }
                    if piece.ends_with(b"\n") {
                        let decoded = decode_line(line)?;
                        out(&decoded).map_err(Base64Error::Sink)?;
                        line.clear();
                    }
                }
                Ok(())
            }
        }
    }

    /// The part has ended.
    pub(crate) fn finish(
        self,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Base64Error> {
        match self {
            Self::Identity => Ok(()),
            Self::Base64(decoder) => decoder.finish(out),
            Self::QuotedPrintable(line) => {
                let decoded = decode_line(&line)?;
                out(&decoded).map_err(Base64Error::Sink)
            }
        }
    }
}

/// A part as its decoder makes it, for reading.
pub(crate) struct Decoded<R> {
    inner: R,
    decoder: Option<TransferDecoder>,
    octets: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Decoded<R> {
    pub(crate) fn new(inner: R, decoder: TransferDecoder) -> Self {
        Self {
            inner,
            decoder: Some(decoder),
            octets: Vec::new(),
            at: 0,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.octets.clear();
        self.at = 0;
        let octets = &mut self.octets;
        let mut take = |piece: &[u8]| {
            octets.extend_from_slice(piece);
            Ok(())
        };
        let raw = self.inner.fill_buf()?;
        let amount = raw.len();
        let decoded = match &mut self.decoder {
            Some(decoder) if amount > 0 => decoder.feed(raw, &mut take),
            _ => match self.decoder.take() {
                Some(decoder) => decoder.finish(&mut take),
                None => Ok(()),
            },
        };
        self.inner.consume(amount);
        decoded.map_err(|_| undecodable())
    }
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let taken = self.fill_buf()?.read(out)?;
        self.consume(taken);
        Ok(taken)
    }
}

impl<R: BufRead> BufRead for Decoded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.octets.len() && self.decoder.is_some() {
            self.refill()?;
        }
        Ok(self.octets.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.octets.len());
    }
}

/// What a part that cannot be decoded says.
pub(crate) fn undecodable() -> io::Error {
    malformed(
        "SOAP-26",
        "a part is not in the Content-Transfer-Encoding that it names",
    )
}

/// One line with its line end (RFC 2045 §6.7).
fn decode_line(line: &[u8]) -> Result<Vec<u8>, Base64Error> {
    let (text, line_end) = match line {
        [text @ .., b'\r', b'\n'] => (text, &b"\r\n"[..]),
        [text @ .., b'\n'] => (text, &b"\n"[..]),
        text => (text, &b""[..]),
    };
    // White space at the end of a line was added on the way.
    let text = text.trim_ascii_end();
    let (text, line_end) = match text {
        [text @ .., b'='] => (text, &b""[..]),
        text => (text, line_end),
    };
    let mut decoded = Vec::with_capacity(line.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'=' {
            decoded.push(*byte);
            continue;
        }
        let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(Base64Error::NotBase64);
        };
        decoded.push(u8::try_from(high * 16 + low).map_err(|_| Base64Error::NotBase64)?);
    }
    decoded.extend_from_slice(line_end);
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(encoding: &str, text: &[u8], cut: usize) -> Result<Vec<u8>, Base64Error> {
        let mut octets = Vec::new();
        let mut out = |piece: &[u8]| {
            octets.extend_from_slice(piece);
            Ok(())
        };
        let mut decoder = TransferDecoder::of(Some(encoding)).unwrap();
        for piece in text.chunks(cut) {
            decoder.feed(piece, &mut out)?;
        }
        decoder.finish(&mut out)?;
        Ok(octets)
    }

    // rule: SOAP-26
    #[test]
    fn every_known_transfer_encoding_is_decoded() {
        for cut in 1..9 {
            assert_eq!(decode("8bit", b"\xE4\r\n=3D", cut).unwrap(), b"\xE4\r\n=3D");
            assert_eq!(
                decode("Base64", b"QUJD\r\nREU=\r\n", cut).unwrap(),
                b"ABCDE"
            );
            let text = b"a=3Db=\r\nc  \r\n=E4 =\n";
            assert_eq!(
                decode("quoted-printable", text, cut).unwrap(),
                b"a=bc\r\n\xE4 "
            );
        }
        assert!(decode("quoted-printable", b"=X1", 9).is_err());
        assert!(decode("quoted-printable", &[b'a'; 5000], 9).is_err());
        assert!(TransferDecoder::of(None).is_some());
        assert!(TransferDecoder::of(Some("x-uuencode")).is_none());
    }
}
