//! Just enough MIME to find what is signed and what is encrypted, over the octets as they came: nothing is put into
//! another form before its signature is verified (SM-53, T-11b).

use std::ops::Range;

use mail_parser::{ContentType, HeaderName, MessageParser, MimeHeaders};

use super::open::OpenError;
use crate::formats::mime::read::Base64Lines;

/// Largest header block of one entity, in octets (LIM-15).
pub(super) const MAX_HEADER_BYTES: usize = 256 * 1024;
/// Longest boundary that is looked for (RFC 2046 §5.1.1), in octets.
const MAX_BOUNDARY_BYTES: usize = 70;

/// A MIME entity: where its body begins, and what its header says of it.
pub(super) struct Entity {
    /// Octets before the body: the header and the blank line.
    pub(super) header_bytes: usize,
    /// `type/subtype` in lower case; `text/plain` when absent (RFC 2045 §5.2).
    pub(super) kind: String,
    /// The boundary parameter.
    pub(super) boundary: Option<String>,
    /// Content-Transfer-Encoding in lower case; `7bit` when absent.
    encoding: String,
}

impl Entity {
    /// Reads the header at the start of `raw`. Two fields of the kinds that decide how to read it are refused (T-11).
    pub(super) fn read(raw: &[u8]) -> Result<Self, OpenError> {
        let header_bytes = header_length(raw)?;
        let header = raw.get(..header_bytes).unwrap_or_default();
        let parsed = MessageParser::new()
            .with_mime_headers()
            .parse_headers(header);
        let headers = parsed.as_ref().map(|message| message.headers());
        for name in [HeaderName::ContentType, HeaderName::ContentTransferEncoding] {
            let fields = headers.into_iter().flatten();
            if fields.filter(|field| field.name == name).count() > 1 {
                return Err(OpenError::Malformed(
                    "two Content-Type or Content-Transfer-Encoding fields",
                ));
            }
        }
        let content_type = parsed.as_ref().and_then(|message| message.content_type());
        let encoding = parsed
            .as_ref()
            .and_then(|message| message.content_transfer_encoding());
        Ok(Self {
            header_bytes,
            kind: content_type.map_or_else(|| "text/plain".to_owned(), kind_text),
            boundary: content_type
                .and_then(|content_type| content_type.attribute("boundary"))
                .map(str::to_owned),
            encoding: encoding.unwrap_or("7bit").trim().to_ascii_lowercase(),
        })
    }

    /// The body of `raw`, which this was read from.
    pub(super) fn body<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        raw.get(self.header_bytes..).unwrap_or_default()
    }

    /// Whether this is `application/pkcs7-mime` or its old name (SM-30).
    pub(super) fn is_pkcs7_mime(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "application/pkcs7-mime" | "application/x-pkcs7-mime"
        )
    }

    /// Whether this is a detached signature, under its present or its old name (SM-12).
    pub(super) fn is_pkcs7_signature(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "application/pkcs7-signature" | "application/x-pkcs7-signature"
        )
    }

    /// The body of `raw` with its transfer encoding taken away.
    pub(super) fn decoded_body(&self, raw: &[u8]) -> Result<Vec<u8>, OpenError> {
        let body = self.body(raw);
        if self.is_base64()? {
            decode_base64(body)
        } else {
            Ok(body.to_vec())
        }
    }

    /// Whether the body is base64; else it is as it is.
    pub(super) fn is_base64(&self) -> Result<bool, OpenError> {
        match self.encoding.as_str() {
            "base64" => Ok(true),
            "binary" | "8bit" | "7bit" => Ok(false),
            _ => Err(OpenError::Malformed(
                "a CMS part must be base64 or binary (RCV-2)",
            )),
        }
    }
}

fn kind_text(content_type: &ContentType<'_>) -> String {
    let subtype = content_type.subtype().unwrap_or_default();
    format!("{}/{subtype}", content_type.ctype()).to_ascii_lowercase()
}

/// The length of the header with the blank line that ends it.
fn header_length(raw: &[u8]) -> Result<usize, OpenError> {
    let mut length = 0;
    for line in raw.split_inclusive(|octet| *octet == b'\n') {
        length += line.len();
        if length > MAX_HEADER_BYTES {
            return Err(OpenError::Malformed("the header is larger than 256 KiB"));
        }
        if matches!(line, b"\r\n" | b"\n") {
            break;
        }
    }
    Ok(length)
}

/// Reads base64 with any line length; characters outside its alphabet are skipped (SM-55), but nothing may follow the
/// padding.
fn decode_base64(text: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    let mut out = |block: &[u8]| {
        octets.extend_from_slice(block);
        Ok(())
    };
    let mut blocks = Base64Lines::for_text(text.len());
    blocks
        .feed(text, &mut out)
        .and_then(|()| blocks.finish(&mut out))
        .map_err(|_| bad_base64())?;
    Ok(octets)
}

/// What base64 that is not whole is refused with.
pub(super) fn bad_base64() -> OpenError {
    OpenError::Malformed("the base64 of a CMS part is cut short or goes on after its end")
}

/// Finds the two parts of a multipart/signed (RFC 1847 §2.1): the first up to, and without, the line end before the
/// next delimiter (SM-50). Anything that two readers could see differently is refused (T-11b).
pub(super) fn two_parts(
    body: &[u8],
    boundary: &str,
) -> Result<(Range<usize>, Range<usize>), OpenError> {
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
        return Err(OpenError::Malformed(
            "multipart/signed has no boundary of 1 to 70 characters (SM-56)",
        ));
    }
    let not_two = || {
        OpenError::Malformed("multipart/signed must have exactly two parts and a final delimiter")
    };
    let mut starts = Vec::with_capacity(2);
    let mut ends = Vec::with_capacity(2);
    let mut is_closed = false;
    let marker = [b"--", boundary.as_bytes()].concat();
    for at in memchr::memmem::find_iter(body, &marker) {
        let (before, rest) = body.split_at(at);
        if !before.is_empty() && !before.ends_with(b"\n") {
            continue;
        }
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = rest.get(..length).unwrap_or_default();
        if let Some(is_final) = delimiter(line, boundary.as_bytes()) {
            if is_closed || starts.len() == 2 && !is_final {
                return Err(not_two());
            }
            if !starts.is_empty() {
                ends.push(at - line_end_length(before));
            }
            if is_final {
                is_closed = true;
            } else {
                starts.push(at + length);
            }
        }
    }
    match (starts.as_slice(), ends.as_slice(), is_closed) {
        ([first, second], [first_end, second_end], true)
            if first <= first_end && second <= second_end =>
        {
            Ok((*first..*first_end, *second..*second_end))
        }
        _ => Err(not_two()),
    }
}

/// Whether `line` is a delimiter of `boundary`, and whether it is the final one.
fn delimiter(line: &[u8], boundary: &[u8]) -> Option<bool> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
    let (rest, is_final) = match rest.strip_prefix(b"--") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    rest.iter().all(u8::is_ascii_whitespace).then_some(is_final)
}

/// The length of the line end at the end of `octets`.
fn line_end_length(octets: &[u8]) -> usize {
    if octets.ends_with(b"\r\n") {
        2
    } else {
        usize::from(octets.ends_with(b"\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(body: &str) -> Result<(&str, &str), OpenError> {
        let (first, second) = two_parts(body.as_bytes(), "b")?;
        Ok((&body[first], &body[second]))
    }

    // rule: SM-50, SM-53
    #[test]
    fn a_part_ends_before_the_line_end_that_precedes_the_delimiter() {
        let body = "preamble\r\n--b\r\nA: 1\r\n\r\none\r\n\r\n--b \r\n\r\ntwo\r\n--b--\r\nepilogue";
        assert_eq!(parts(body).unwrap(), ("A: 1\r\n\r\none\r\n", "\r\ntwo"));
    }

    // rule: T-11b
    #[test]
    fn anything_but_two_parts_and_a_final_delimiter_is_refused() {
        for body in [
            "",
            "--b\r\none\r\n--b--\r\n",
            "--b\r\none\r\n--b\r\ntwo\r\n",
            "--b\r\none\r\n--b\r\ntwo\r\n--b\r\nthree\r\n--b--\r\n",
            "--b\r\none\r\n--b\r\ntwo\r\n--b--\r\n--b\r\n",
            "--b--\r\n--b\r\none\r\n",
        ] {
            assert!(parts(body).is_err(), "{body:?}");
        }
    }

    // rule: SM-30, SM-57
    #[test]
    fn odd_spellings_of_the_header_are_read() {
        let raw = b"content-type : APPLICATION/X-pkcs7-MIME; (a comment) name=SMIME.P7M;\r\n\tboundary=\"a b\"\r\n\
                    Content-Transfer-Encoding: BASE64\r\n\r\nAQ ID\r\n!Ag==\r\n";
        let entity = Entity::read(raw).unwrap();
        assert!(entity.is_pkcs7_mime());
        assert_eq!(entity.decoded_body(raw).unwrap(), [1, 2, 3, 2]);
    }

    // rule: T-11
    #[test]
    fn two_content_types_are_refused() {
        let raw = b"Content-Type: text/plain\r\nContent-Type: application/pkcs7-mime\r\n\r\n";
        assert!(Entity::read(raw).is_err());
    }

    // rule: SM-55
    #[test]
    fn base64_that_is_cut_short_or_goes_on_after_its_padding_is_refused() {
        assert_eq!(decode_base64(b"AQIDBA==").unwrap(), [1, 2, 3, 4]);
        assert!(decode_base64(b"AQIDBA==AQID").is_err());
        assert!(decode_base64(b"AQIDBA").is_err());
    }
}
