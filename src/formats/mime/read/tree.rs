//! The parts of a message, found by their delimiters in the octets that were signed (RFC 2046 §5.1).

use super::{MailError, field::RawHeader, part::Part};
use crate::formats::{finding::Finding, limits::Limits};

/// Longest boundary (RFC 2046 §5.1.1), in octets.
const MAX_BOUNDARY_BYTES: usize = 70;

/// Reads `entity`, a header and its body.
pub(super) fn read<'a>(
    entity: &'a [u8],
    limits: &Limits,
    findings: &mut Vec<Finding>,
) -> Result<Part<'a>, MailError> {
    let mut reader = TreeReader {
        limits,
        findings,
        parts: 0,
        open: Vec::new(),
    };
    reader.part(entity, String::new())
}

struct TreeReader<'l> {
    limits: &'l Limits,
    findings: &'l mut Vec<Finding>,
    parts: usize,
    /// The boundaries of the multiparts that are open.
    open: Vec<Vec<u8>>,
}

impl TreeReader<'_> {
    fn part<'a>(&mut self, entity: &'a [u8], path: String) -> Result<Part<'a>, MailError> {
        let refuse = |rule, text| Err(MailError::new(rule, &path, text));
        self.parts += 1;
        if self.parts > self.limits.max_mime_parts {
            return refuse("LIM-15", "the message has more parts than the limit");
        }
        let fields = RawHeader::read(entity, self.limits, &path)?;
        let mut part = Part::read(&fields, entity, path.clone())?;
        if part.has_malformed_type {
            let text = "the Content-Type is not of the form type/subtype; the content is looked at instead; it should be";
            self.findings
                .push(Finding::warning("MD-110", location(&path), text));
        }
        if !part.is_multipart() {
            if part.path.is_empty() {
                part.path = "1".to_owned();
            }
            return Ok(part);
        }
        if self.open.len() >= self.limits.max_mime_depth {
            return refuse("LIM-15", "parts are nested deeper than the limit");
        }
        let boundary = part.parameter("boundary").unwrap_or_default().as_bytes();
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES || part.has_twice("boundary")
        {
            let text = "a multipart needs one boundary of 1 to 70 characters";
            return refuse("T-11b", text);
        }
        if self.open.iter().any(|outer| outer == boundary) {
            let text = "a multipart has the boundary of one that it lies in";
            return refuse("T-11b", text);
        }
        let boundary = boundary.to_vec();
        let Some(bodies) = split(part.body, &boundary) else {
            let text = "a multipart must have a part, and end with its final delimiter";
            return refuse("T-11b", text);
        };
        self.open.push(boundary);
        for (number, body) in (1..).zip(bodies) {
            let path = if part.path.is_empty() {
                format!("{number}")
            } else {
                format!("{}.{number}", part.path)
            };
            part.children.push(self.part(body, path)?);
        }
        self.open.pop();
        Ok(part)
    }
}

fn location(path: &str) -> String {
    if path.is_empty() {
        "message".to_owned()
    } else {
        format!("part {path}")
    }
}

/// The bodies between the delimiters, each without the line end that belongs to the next delimiter. `None` if there is
/// no part, or no final delimiter, or another delimiter after it.
fn split<'a>(body: &'a [u8], boundary: &[u8]) -> Option<Vec<&'a [u8]>> {
    let mut marker = b"--".to_vec();
    marker.extend_from_slice(boundary);
    let mut bodies = Vec::new();
    let mut start: Option<usize> = None;
    let mut is_closed = false;
    for at in memchr::memmem::find_iter(body, &marker) {
        let before = body.get(..at)?;
        if !before.is_empty() && !before.ends_with(b"\n") {
            continue;
        }
        let rest = body.get(at + marker.len()..)?;
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = rest.get(..length)?;
        let (after, is_final) = match line.strip_prefix(b"--") {
            Some(after) => (after, true),
            None => (line, false),
        };
        if !after.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if is_closed {
            return None;
        }
        if let Some(start) = start {
            // Two delimiters on neighbouring lines share one line end: an empty part.
            let end = at - line_end_length(before);
            bodies.push(body.get(start..end.max(start))?);
        }
        start = Some(at + marker.len() + length);
        is_closed = is_final;
    }
    (is_closed && !bodies.is_empty()).then_some(bodies)
}

fn line_end_length(octets: &[u8]) -> usize {
    if octets.ends_with(b"\r\n") {
        2
    } else {
        usize::from(octets.ends_with(b"\n"))
    }
}
