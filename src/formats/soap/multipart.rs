//! multipart/related as a stream: parts one after the other, each with its header and its octets, in a window of
//! fixed size (SOAP-30, LIM-6, LIM-7).

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use memchr::memmem::Finder;

use crate::formats::limits::Limits;

/// The window that boundaries are searched in.
const WINDOW_BYTES: usize = 64 * 1024;
/// Longest boundary that is taken. RFC 2046 §5.1.1 allows 70; some stacks write more.
const MAX_BOUNDARY_BYTES: usize = 200;
/// White space after a boundary that is taken before its line end (RFC 2046 §5.1.1 transport padding).
const MAX_PADDING_BYTES: usize = 256;

/// The package is not as it must be. It travels inside an [`io::Error`], since parts are read by [`BufRead`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Malformed {
    /// The rule in docs/spec.
    pub(crate) rule: &'static str,
    /// What is wrong; no received value in it.
    pub(crate) text: &'static str,
}

/// A [`Malformed`] in its wrapping.
pub(crate) fn malformed(rule: &'static str, text: &'static str) -> io::Error {
    io::Error::other(Malformed { rule, text })
}

/// The header of one part.
#[derive(Debug, Default)]
pub(crate) struct PartHeader {
    pub(crate) content_type: Option<String>,
    pub(crate) transfer_encoding: Option<String>,
    /// Without angle brackets (SOAP-21).
    pub(crate) content_id: Option<String>,
    /// Whether the Content-ID came without angle brackets.
    pub(crate) has_bare_content_id: bool,
}

/// Reads parts in wire order: [`Multipart::next_part`], then the part's octets by [`BufRead`], and so on.
pub(crate) struct Multipart<'a> {
    inner: &'a mut dyn Read,
    /// `\n--boundary`.
    delimiter: Finder<'static>,
    window: Box<[u8]>,
    start: usize,
    end: usize,
    /// Up to here no delimiter begins.
    clean: usize,
    state: State,
    parts: usize,
    max_parts: usize,
    max_header_bytes: usize,
    inner_has_ended: bool,
    lacks_final_delimiter: bool,
    has_bare_lf: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// In a part.
    Inside,
    /// A part has ended; its delimiter of so many octets is still in the window.
    AtDelimiter { octets: usize, is_last: bool },
    /// After the last delimiter.
    Ended,
}

impl<'a> Multipart<'a> {
    pub(crate) fn open(
        inner: &'a mut dyn Read,
        boundary: &str,
        limits: &Limits,
    ) -> io::Result<Self> {
        let is_text =
            boundary.bytes().all(|b| (b' '..=b'~').contains(&b)) && !boundary.ends_with(' ');
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES || !is_text {
            return Err(malformed(
                "SOAP-3",
                "the boundary must have 1 to 200 printable characters",
            ));
        }
        let mut window = vec![0; WINDOW_BYTES].into_boxed_slice();
        // A line end of our own stands before the first octet, so that a boundary there is found like any other.
        if let Some(first) = window.first_mut() {
            *first = b'\n';
        }
        Ok(Self {
            inner,
            delimiter: Finder::new(&format!("\n--{boundary}")).into_owned(),
            window,
            start: 0,
            end: 1,
            clean: 0,
            state: State::Preamble,
            parts: 0,
            max_parts: limits.max_mtom_parts,
            max_header_bytes: limits.max_part_header_bytes,
            inner_has_ended: false,
            lacks_final_delimiter: false,
            has_bare_lf: false,
        })
    }

    /// Whether the stream ended without the closing `--boundary--` (accepted, SOAP-30).
    pub(crate) fn lacks_final_delimiter(&self) -> bool {
        self.lacks_final_delimiter
    }

    /// Whether a line in the header of a part ended in LF alone (accepted, SOAP-30).
    pub(crate) fn has_bare_lf(&self) -> bool {
        self.has_bare_lf
    }

    /// Passes over what is left of the present part and reads the header of the next one. `None`: there is none.
    pub(crate) fn next_part(&mut self) -> io::Result<Option<PartHeader>> {
        loop {
            match self.state {
                State::Ended => return Ok(None),
                State::AtDelimiter { octets, is_last } => {
                    self.start += octets;
                    self.clean = self.start;
                    if is_last {
                        self.state = State::Ended;
                        // What follows belongs to nobody, but the peer has to be heard out (RFC 2046 epilogue).
                        io::copy(&mut self.inner, &mut io::sink())?;
                        return Ok(None);
                    }
                    return self.read_header();
                }
                State::Preamble | State::Inside => {
                    let amount = self.fill_buf()?.len();
                    self.consume(amount);
                }
            }
        }
    }

    fn read_header(&mut self) -> io::Result<Option<PartHeader>> {
        let Some(block) = self.take_header_block()? else {
            self.state = State::Ended;
            self.lacks_final_delimiter = true;
            return Ok(None);
        };
        self.parts += 1;
        if self.parts > self.max_parts {
            return Err(malformed(
                "LIM-6",
                "the package has more parts than the limit",
            ));
        }
        self.state = State::Inside;
        parse_header(&block).map(Some)
    }

    /// The lines up to the empty one. `None`: the stream ends right here.
    fn take_header_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut block = Vec::new();
        let mut line_length = 0;
        let mut is_after_cr = false;
        loop {
            if self.start == self.end && !self.refill()? {
                if block.is_empty() {
                    return Ok(None);
                }
                return Err(malformed(
                    "SOAP-30",
                    "the package ends inside the header of a part",
                ));
            }
            let byte = self.window.get(self.start).copied().unwrap_or_default();
            self.has_bare_lf |= byte == b'\n' && !is_after_cr;
            is_after_cr = byte == b'\r';
            // The line end before the body stays in the window: a boundary may follow it at once (an empty part).
            if byte == b'\n' && line_length == 0 {
                self.clean = self.start;
                // Only the delimiter search looks at it; it is no part of the content.
                return self.skip_header_end().map(|()| Some(block));
            }
            self.start += 1;
            block.push(byte);
            if block.len() > self.max_header_bytes {
                return Err(malformed(
                    "LIM-7",
                    "the header of a part is larger than the limit",
                ));
            }
            match byte {
                b'\n' => line_length = 0,
                // A CR before the LF of an empty line.
                b'\r' => {}
                _ => line_length += 1,
            }
        }
    }

    /// Steps over the LF that ends the header, unless a delimiter begins with it.
    fn skip_header_end(&mut self) -> io::Result<()> {
        let needed = self.delimiter.needle().len();
        while self.end - self.start < needed && self.refill()? {}
        let ahead = self.window.get(self.start..self.end).unwrap_or_default();
        if !ahead.starts_with(self.delimiter.needle()) {
            self.start += 1;
            self.clean = self.start;
        }
        Ok(())
    }

    /// Reads more octets into the window. `false`: there are none.
    fn refill(&mut self) -> io::Result<bool> {
        if self.inner_has_ended {
            return Ok(false);
        }
        if self.start > 0 && (self.start == self.end || self.end == self.window.len()) {
            self.window.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            // It lags behind while a header is read.
            self.clean = self.clean.saturating_sub(self.start);
            self.start = 0;
        }
        loop {
            let room = self.window.get_mut(self.end..).unwrap_or_default();
            match self.inner.read(room) {
                Ok(0) => {
                    self.inner_has_ended = true;
                    return Ok(false);
                }
                Ok(amount) => {
                    self.end += amount;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves `clean` on, past everything in the window that is certainly content, or finds the delimiter.
    fn search(&mut self) -> io::Result<()> {
        while self.clean == self.start {
            let needle = self.delimiter.needle().len();
            let ahead = self.window.get(self.clean..self.end).unwrap_or_default();
            let Some(at) = self.delimiter.find(ahead) else {
                // The last octets may be the beginning of a delimiter, and of the CR before it.
                let certain = ahead.len().saturating_sub(needle);
                self.clean += certain;
                if certain == 0 && !self.refill()? {
                    return Err(malformed(
                        "SOAP-30",
                        "the package ends inside a part, or its boundary never comes",
                    ));
                }
                continue;
            };
            let has_cr = at > 0 && ahead.get(at - 1) == Some(&b'\r');
            let content = if has_cr { at - 1 } else { at };
            if content > 0 {
                self.clean += content;
                return Ok(());
            }
            match delimiter_tail(ahead.get(at + needle..).unwrap_or_default()) {
                Tail::Incomplete if self.refill()? => {}
                Tail::Incomplete | Tail::Last(_) | Tail::Next(_) => {
                    let (tail, is_last) = match delimiter_tail(self.after(at + needle)) {
                        Tail::Last(tail) => (tail, true),
                        Tail::Next(tail) => (tail, false),
                        // The stream ends right after the boundary.
                        _ => (
                            self.after(at + needle).len(),
                            self.after(at + needle).starts_with(b"--"),
                        ),
                    };
                    self.state = State::AtDelimiter {
                        octets: at + needle + tail,
                        is_last,
                    };
                    return Ok(());
                }
                // The boundary is only the beginning of a longer text.
                Tail::None => self.clean += at + 1,
            }
        }
        Ok(())
    }

    fn after(&self, offset: usize) -> &[u8] {
        self.window
            .get(self.start + offset..self.end)
            .unwrap_or_default()
    }
}

/// What stands after `--boundary`.
enum Tail {
    /// The end of the line comes after so many octets.
    Next(usize),
    /// As [`Tail::Next`], and `--` stood before.
    Last(usize),
    /// More octets are needed.
    Incomplete,
    /// This is no boundary.
    None,
}

fn delimiter_tail(tail: &[u8]) -> Tail {
    if tail == b"-" || tail.is_empty() {
        return Tail::Incomplete;
    }
    let is_last = tail.starts_with(b"--");
    let mark = if is_last { 2 } else { 0 };
    let rest = tail.get(mark..).unwrap_or_default();
    let padding = rest
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    if padding > MAX_PADDING_BYTES {
        return Tail::None;
    }
    let line_end = match rest.get(padding..).unwrap_or_default() {
        [] | [b'\r'] => return Tail::Incomplete,
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        _ => return Tail::None,
    };
    let octets = mark + padding + line_end;
    if is_last {
        Tail::Last(octets)
    } else {
        Tail::Next(octets)
    }
}

impl Read for Multipart<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.read(out)?;
        self.consume(amount);
        Ok(amount)
    }
}

/// The octets of the present part.
impl BufRead for Multipart<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if matches!(self.state, State::Preamble | State::Inside) {
            if self.start == self.end {
                self.refill()?;
            }
            self.search()?;
        }
        if matches!(self.state, State::Preamble | State::Inside) {
            Ok(self.window.get(self.start..self.clean).unwrap_or_default())
        } else {
            Ok(&[])
        }
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.clean);
    }
}

/// Header fields: folded lines allowed, a field that decides something at most once (T-11).
fn parse_header(block: &[u8]) -> io::Result<PartHeader> {
    // Senders write file names in their own charset: octets that are not UTF-8 hurt only in a field that is used.
    let text = String::from_utf8_lossy(block);
    let is_damaged = matches!(text, Cow::Owned(_));
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            continue;
        }
        if line.starts_with([' ', '\t'])
            && let Some((_, value)) = fields.last_mut()
        {
            value.push_str(line);
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(malformed(
                "SOAP-80",
                "a line in the header of a part is no header field",
            ));
        };
        fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut header = PartHeader::default();
    for (name, value) in fields {
        let field = match name.as_str() {
            "content-type" => &mut header.content_type,
            "content-transfer-encoding" => &mut header.transfer_encoding,
            "content-id" => &mut header.content_id,
            _ => continue,
        };
        if is_damaged && value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(malformed("SOAP-80", "a header field of a part is not text"));
        }
        if field.replace(value).is_some() {
            return Err(malformed("T-11", "a part has one header field twice"));
        }
    }
    header.has_bare_content_id = header
        .content_id
        .as_ref()
        .is_some_and(|id| !id.trim().starts_with('<'));
    header.content_id = header.content_id.map(|id| bare_content_id(&id).to_owned());
    Ok(header)
}

/// A Content-ID without angle brackets and white space around it (SOAP-21).
pub(crate) fn bare_content_id(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .map_or(text, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: SOAP-80
    #[test]
    fn octets_that_are_not_utf_8_are_refused_only_in_a_field_that_is_used() {
        let read = parse_header(
            b"Content-Disposition: attachment; filename=\"h\xe4fen.pdf\"\r\nContent-ID: <1@x>\r\n",
        )
        .unwrap();
        assert_eq!(read.content_id.as_deref(), Some("1@x"));
        assert!(parse_header(b"Content-ID: <\xe4@x>\r\n").is_err());
    }
}
