//! The fields of a header as they stand, counted before anything is made of them (LIM-15, T-11).

use mail_parser::{HeaderValue, parsers::MessageStream};

use super::{super::super::limits::Limits, MailError};

/// The fields at the beginning of an entity.
pub(super) struct RawHeader<'a> {
    fields: Vec<RawField<'a>>,
    /// Octets before the body: the fields and the blank line.
    pub(super) length: usize,
}

struct RawField<'a> {
    name: &'a [u8],
    /// What stands after the colon, folds and all.
    value: &'a [u8],
}

impl<'a> RawHeader<'a> {
    /// Reads up to the first blank line; a header without one is all header. `location` is the part's path.
    pub(super) fn read(
        entity: &'a [u8],
        limits: &Limits,
        location: &str,
    ) -> Result<Self, MailError> {
        let refuse = |rule, text| Err(MailError::new(rule, location, text));
        let mut fields: Vec<RawField<'a>> = Vec::new();
        let mut length = 0;
        // Where the value of the last field begins.
        let mut value_start = 0;
        for line in entity.split_inclusive(|octet| *octet == b'\n') {
            let start = length;
            length += line.len();
            if length > limits.max_mime_header_bytes {
                return refuse("LIM-15", "the header is larger than the limit");
            }
            if line.len() > limits.max_mime_line_bytes {
                return refuse("LIM-15", "a header line is longer than the limit");
            }
            if matches!(line, b"\r\n" | b"\n") {
                break;
            }
            if matches!(line, [b' ' | b'\t', ..]) {
                let Some(field) = fields.last_mut() else {
                    return refuse("T-11b", "the header begins with the rest of a field");
                };
                field.value = entity.get(value_start..length).unwrap_or_default();
                continue;
            }
            let Some(colon) = memchr::memchr(b':', line) else {
                return refuse("T-11b", "a header line is no field: it has no colon");
            };
            let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
            if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
                return refuse("T-11b", "a header line is no field: its name is none");
            }
            if fields.len() >= limits.max_mime_header_fields {
                return refuse("LIM-15", "the header has more fields than the limit");
            }
            value_start = start + colon + 1;
            fields.push(RawField {
                name,
                value: entity.get(value_start..length).unwrap_or_default(),
            });
        }
        Ok(Self { fields, length })
    }

    /// The value of a field that decides how the message is read: it may stand there once (T-11).
    pub(super) fn only(&self, name: &str, location: &str) -> Result<Option<&'a [u8]>, MailError> {
        let mut found = self.all(name);
        let first = found.next();
        if found.next().is_some() {
            let text = "From, To, Cc, Sender, Message-ID, Content-Type, Content-Transfer-Encoding and \
                        Content-Disposition may stand in a header once";
            return Err(MailError::new("T-11", location, text));
        }
        Ok(first)
    }

    /// The value of the first field of this name.
    pub(super) fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all fields of this name.
    pub(super) fn all<'n>(
        &self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a [u8]> + use<'_, 'a, 'n> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value)
    }
}

/// Free text: encoded words decoded (RFC 2047), folds and runs of white space turned into one space, control characters
/// left out. `None` if nothing is left.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let terminated = terminated(value);
    let decoded = match MessageStream::new(&terminated).parse_unstructured() {
        HeaderValue::Text(text) => text.into_owned(),
        _ => return None,
    };
    clean(&decoded)
}

/// One line of it, without control characters; `None` if nothing is left.
pub(super) fn clean(text: &str) -> Option<String> {
    let words: Vec<&str> = text
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The value with the line end that the field parser waits for, and nothing after it that it could take for a fold.
pub(super) fn terminated(value: &[u8]) -> Vec<u8> {
    let mut line = value.trim_ascii_end().to_vec();
    line.extend_from_slice(b"\r\n");
    line
}
