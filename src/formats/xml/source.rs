//! The octets under the XML reader: metered, recorded where text is kept, and in UTF-8 whatever came.

use std::io::{self, BufRead, Read};

/// Octets that are decoded from UTF-16 at once.
const UTF16_BLOCK_BYTES: usize = 16 * 1024;
const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";

/// A metered source. Octets that count towards the limit are those that [`BufRead::consume`] passes; document text
/// is taken by [`Source::consume_unmetered`] instead (LIM-3 leaves it out).
pub struct Source<'a> {
    inner: Box<dyn BufRead + 'a>,
    /// Octets of `inner` that were looked at before their turn; there are never more than a few.
    ahead: Vec<u8>,
    left_bytes: u64,
    /// What is consumed is also kept here, while it is `Some`.
    recorded: Option<Vec<u8>>,
    /// The first failure, whole: the XML reader would wrap it.
    failure: Option<io::Error>,
    is_utf16: bool,
}

/// More octets than the limit on XML allows (LIM-3).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the XML is larger than the limit")]
pub struct XmlTooLarge;

impl<'a> Source<'a> {
    /// A source over `inner` that gives `max_bytes` at the most. A byte order mark is taken off; UTF-16 with a byte
    /// order mark is turned into UTF-8 (SOAP-8).
    pub fn open(mut inner: Box<dyn BufRead + 'a>, max_bytes: u64) -> io::Result<Self> {
        let mut head = Vec::new();
        // A mark may arrive in pieces.
        while head.len() < UTF8_BOM.len() {
            let piece = inner.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            let taken = piece.len().min(UTF8_BOM.len() - head.len());
            head.extend_from_slice(piece.get(..taken).unwrap_or_default());
            inner.consume(taken);
        }
        let after = |mark: usize| head.get(mark..).unwrap_or_default().to_vec();
        let is_utf16 = matches!(head.as_slice(), [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]);
        let inner: Box<dyn BufRead + 'a> = match head.as_slice() {
            [0xFF, 0xFE, ..] => Box::new(Utf16::new(
                io::Cursor::new(after(2)).chain(inner),
                u16::from_le_bytes,
            )),
            [0xFE, 0xFF, ..] => Box::new(Utf16::new(
                io::Cursor::new(after(2)).chain(inner),
                u16::from_be_bytes,
            )),
            UTF8_BOM => inner,
            _ => Box::new(io::Cursor::new(after(0)).chain(inner)),
        };
        Ok(Self {
            inner,
            ahead: Vec::new(),
            left_bytes: max_bytes,
            recorded: None,
            failure: None,
            is_utf16,
        })
    }

    /// Whether its byte order mark is one of UTF-16.
    pub fn is_utf16(&self) -> bool {
        self.is_utf16
    }

    /// Takes octets that do not count towards the limit.
    pub fn consume_unmetered(&mut self, amount: usize) {
        self.record(amount);
        if self.ahead.is_empty() {
            self.inner.consume(amount);
        } else {
            self.ahead.drain(..amount.min(self.ahead.len()));
        }
    }

    /// Whether the octets that follow are these few.
    pub fn is_next(&mut self, wanted: &[u8]) -> io::Result<bool> {
        while self.ahead.len() < wanted.len() {
            let fresh = match self.inner.fill_buf() {
                Ok(fresh) => fresh,
                Err(error) => {
                    self.failure = Some(error);
                    return Err(placeholder());
                }
            };
            if self.ahead.is_empty() && fresh.len() >= wanted.len() {
                return Ok(fresh.starts_with(wanted));
            }
            let taken = fresh.len().min(wanted.len() - self.ahead.len());
            if taken == 0 {
                return Ok(false);
            }
            self.ahead
                .extend_from_slice(fresh.get(..taken).unwrap_or_default());
            self.inner.consume(taken);
        }
        Ok(self.ahead.starts_with(wanted))
    }

    fn next_octets(&mut self) -> io::Result<&[u8]> {
        if self.ahead.is_empty() {
            self.inner.fill_buf()
        } else {
            Ok(&self.ahead)
        }
    }

    /// Starts recording, or starts it anew.
    pub fn record_from_here(&mut self) {
        self.recorded.get_or_insert_default().clear();
    }

    /// Ends recording.
    pub fn take_recorded(&mut self) -> Vec<u8> {
        self.recorded.take().unwrap_or_default()
    }

    /// The failure that made the reader stop.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    fn record(&mut self, amount: usize) {
        let Some(mut recorded) = self.recorded.take() else {
            return;
        };
        if let Ok(buffered) = self.next_octets() {
            recorded.extend_from_slice(buffered.get(..amount).unwrap_or(buffered));
        }
        self.recorded = Some(recorded);
    }
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let taken = self.fill_buf()?.read(out)?;
        self.consume(taken);
        Ok(taken)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left_bytes == 0 {
            // The limit may fall on the very end.
            let is_end = match self.next_octets() {
                Ok(rest) => rest.is_empty(),
                Err(error) => {
                    self.failure = Some(error);
                    return Err(placeholder());
                }
            };
            if is_end {
                return Ok(&[]);
            }
            self.failure = Some(io::Error::other(XmlTooLarge));
            return Err(placeholder());
        }
        let max = usize::try_from(self.left_bytes).unwrap_or(usize::MAX);
        // Asked twice, since the borrow of what is given lasts to the end.
        if let Err(error) = self.next_octets() {
            self.failure = Some(error);
            return Err(placeholder());
        }
        let buffered = self.next_octets()?;
        Ok(buffered.get(..max).unwrap_or(buffered))
    }

    fn consume(&mut self, amount: usize) {
        self.left_bytes = self.left_bytes.saturating_sub(amount as u64);
        self.consume_unmetered(amount);
    }
}

/// What the XML reader gets in place of a failure.
fn placeholder() -> io::Error {
    io::Error::other("see Source::take_failure")
}

/// UTF-16 to UTF-8. Unpaired surrogates and an odd octet at the end are errors.
struct Utf16<R> {
    inner: R,
    to_unit: fn([u8; 2]) -> u16,
    /// A high surrogate whose other half has not come yet.
    pending: Option<u16>,
    text: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Utf16<R> {
    fn new(inner: R, to_unit: fn([u8; 2]) -> u16) -> Self {
        Self {
            inner,
            to_unit,
            pending: None,
            text: Vec::new(),
            at: 0,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let mut raw = Vec::with_capacity(UTF16_BLOCK_BYTES);
        Read::by_ref(&mut self.inner)
            .take(UTF16_BLOCK_BYTES as u64)
            .read_to_end(&mut raw)?;
        let is_end = raw.is_empty();
        let pairs = raw.chunks_exact(2);
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, NotUtf16);
        if !pairs.remainder().is_empty() {
            return Err(malformed());
        }
        let fresh = pairs
            .filter_map(|pair| pair.try_into().ok())
            .map(self.to_unit);
        let mut units: Vec<u16> = self.pending.take().into_iter().chain(fresh).collect();
        if !is_end
            && units
                .last()
                .is_some_and(|unit| (0xD800..0xDC00).contains(unit))
        {
            self.pending = units.pop();
        }
        self.text.clear();
        self.at = 0;
        for unit in char::decode_utf16(units) {
            let c = unit.map_err(|_| malformed())?;
            self.text
                .extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }
}

/// The octets are not UTF-16.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the octets are not UTF-16 as their byte order mark says")]
pub struct NotUtf16;

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let taken = self.fill_buf()?.read(out)?;
        self.consume(taken);
        Ok(taken)
    }
}

impl<R: BufRead> BufRead for Utf16<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.text.len() {
            self.refill()?;
            // One lone high surrogate leaves nothing to give yet.
            if self.text.is_empty() && self.pending.is_some() {
                self.refill()?;
            }
        }
        Ok(self.text.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.text.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8], max_bytes: u64) -> io::Result<String> {
        // One octet at a time: a mark and a surrogate pair are cut in every place.
        let inner = Box::new(io::BufReader::with_capacity(1, octets));
        let mut text = String::new();
        Source::open(inner, max_bytes)?.read_to_string(&mut text)?;
        Ok(text)
    }

    // rule: SOAP-8
    #[test]
    fn byte_order_marks_are_taken_off_and_utf16_is_read() {
        assert_eq!(read(b"\xEF\xBB\xBF<a/>", 9).unwrap(), "<a/>");
        assert_eq!(read(b"<a", 9).unwrap(), "<a");
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let octets: Vec<u8> = "\u{FEFF}<ä>𝄞".encode_utf16().flat_map(to_bytes).collect();
            assert_eq!(read(&octets, 99).unwrap(), "<ä>𝄞");
        }
        assert!(read(b"\xFF\xFEa", 9).is_err());
        assert!(read(b"\xFF\xFE\x00\xD8", 9).is_err());
    }

    // rule: LIM-3
    #[test]
    fn a_source_gives_no_more_than_its_limit() {
        assert_eq!(read(b"12345", 5).unwrap(), "12345");
        assert!(read(b"123456", 5).is_err());
    }
}
