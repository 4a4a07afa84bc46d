//! One part of a message: what its header says, and its octets.

use std::{borrow::Cow, io};

use jiff::Timestamp;
use mail_parser::{ContentType, HeaderValue, parsers::MessageStream};

use super::{
    MailError,
    field::{RawHeader, clean, terminated, text},
    header::{content_id, date},
    transfer::{DecodeError, TransferEncoding, decode},
};
use crate::formats::{
    document::{DocumentFacts, DocumentKey, DocumentSink, FactsSink},
    mime::write::MediaType,
};

/// Longest file name that is kept, in characters.
const MAX_FILE_NAME_CHARS: usize = 255;

/// Content-Disposition (RFC 2183).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Shown with the message. What has no field is taken as this.
    Inline,
    /// `attachment`, and every type that is not known (RFC 2183 §2.8).
    Attachment,
}

/// One part. `Debug` shows no content.
#[derive(Clone)]
pub struct Part<'a> {
    /// Where it stands: `1.2` is the second part of the first one.
    pub path: String,
    /// Whether Content-Type is there and malformed.
    pub has_malformed_type: bool,
    /// Content-Disposition.
    pub disposition: Disposition,
    /// The file name, decoded, without folders and control characters (CC-11, T-9).
    pub file_name: Option<String>,
    /// Content-Description, decoded.
    pub description: Option<String>,
    /// The first tag of Content-Language.
    pub language: Option<String>,
    /// The creation-date of Content-Disposition.
    pub creation_date: Option<Timestamp>,
    /// Content-ID without its angle brackets.
    pub content_id: Option<String>,
    /// Content-Transfer-Encoding.
    pub encoding: TransferEncoding,
    /// Its octets as they came, still encoded.
    pub body: &'a [u8],
    /// The parts of a multipart.
    pub children: Vec<Part<'a>>,
    media_type: Option<String>,
    parameters: Vec<(String, String)>,
}

impl std::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("path", &self.path)
            .field("media_type", &self.media_type())
            .field("bytes", &self.body.len())
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

impl<'a> Part<'a> {
    /// Reads the fields of a part, whose entity they were read from. Children are found by [`super::tree`].
    pub(super) fn read(
        fields: &RawHeader<'_>,
        entity: &'a [u8],
        path: String,
    ) -> Result<Self, MailError> {
        let kind = fields.only("Content-Type", &path)?;
        let parsed = kind.and_then(Structured::read);
        let (media_type, parameters) = match parsed {
            Some(parsed) => (parsed.essence, parsed.parameters),
            None => (None, Vec::new()),
        };
        let disposition = fields
            .only("Content-Disposition", &path)?
            .and_then(Structured::read);
        let encoding = fields.only("Content-Transfer-Encoding", &path)?;
        let is_inline = disposition
            .as_ref()
            .is_none_or(|field| field.word.eq_ignore_ascii_case("inline"));
        let of_disposition = disposition
            .map(|field| field.parameters)
            .unwrap_or_default();
        let named = find(&of_disposition, "filename").or_else(|| find(&parameters, "name"));
        Ok(Self {
            has_malformed_type: kind.is_some() && media_type.is_none(),
            disposition: if is_inline {
                Disposition::Inline
            } else {
                Disposition::Attachment
            },
            file_name: named.and_then(file_name),
            description: fields.first("Content-Description").and_then(text),
            language: fields
                .first("Content-Language")
                .and_then(text)
                .and_then(|list| list.split([',', ' ']).next().map(str::to_owned))
                .filter(|tag| !tag.is_empty()),
            creation_date: find(&of_disposition, "creation-date")
                .and_then(|written| date(written.as_bytes())),
            content_id: fields
                .first("Content-ID")
                .and_then(text)
                .map(|id| content_id(&id)),
            encoding: encoding.map_or(TransferEncoding::Identity, TransferEncoding::read),
            body: entity.get(fields.length..).unwrap_or_default(),
            children: Vec::new(),
            path,
            media_type,
            parameters,
        })
    }

    /// `type/subtype` in lower case as the header says; `text/plain` where it says nothing (RFC 2045 §5.2).
    pub fn media_type(&self) -> &str {
        self.media_type.as_deref().unwrap_or("text/plain")
    }

    /// The same; `None` where Content-Type is absent or malformed.
    pub fn declared_type(&self) -> Option<&str> {
        self.media_type.as_deref()
    }

    /// A parameter of Content-Type.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.parameters, name)
    }

    /// Whether a parameter of Content-Type stands there twice.
    pub(super) fn has_twice(&self, name: &str) -> bool {
        let same = self.parameters.iter().filter(|(own, _)| own == name);
        same.count() > 1
    }

    /// Whether it holds further parts.
    pub fn is_multipart(&self) -> bool {
        self.media_type().starts_with("multipart/")
    }

    /// Hands on the decoded octets in blocks.
    pub fn decode(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), DecodeError> {
        decode(self.body, self.encoding, out)
    }

    /// The decoded octets, if there are at most `max_bytes` of them. What is not encoded is not copied.
    pub fn decoded(&self, max_bytes: u64) -> Result<Cow<'a, [u8]>, DecodeError> {
        let too_large = DecodeError::TooLarge { max_bytes };
        if self.encoding == TransferEncoding::Identity {
            let fits = self.body.len() as u64 <= max_bytes;
            return fits.then_some(Cow::Borrowed(self.body)).ok_or(too_large);
        }
        let mut octets = Vec::with_capacity(self.body.len() / 4 * 3);
        let mut is_too_large = false;
        let decoded = self.decode(&mut |block| {
            is_too_large = (octets.len() + block.len()) as u64 > max_bytes;
            if is_too_large {
                return Err(io::Error::other("larger than the limit"));
            }
            octets.extend_from_slice(block);
            Ok(())
        });
        match decoded {
            Err(_) if is_too_large => Err(too_large),
            Err(error) => Err(error),
            Ok(()) => Ok(Cow::Owned(octets)),
        }
    }

    /// The first decoded octets, `most` at the most; what follows them is not decoded.
    pub fn beginning(&self, most: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        let _ = self.decode(&mut |block| {
            octets.extend_from_slice(block.get(..most - octets.len()).unwrap_or(block));
            if octets.len() < most {
                Ok(())
            } else {
                Err(io::Error::other("enough"))
            }
        });
        octets
    }

    /// Size and digests of the decoded octets, if there are at most `max_bytes` of them.
    pub fn facts(&self, key: DocumentKey, max_bytes: u64) -> Result<DocumentFacts, DecodeError> {
        let mut sink = FactsSink::default();
        let mut size = 0u64;
        sink.begin(key)?;
        let decoded = self.decode(&mut |block| {
            size += block.len() as u64;
            if size > max_bytes {
                return Err(io::Error::other("larger than the limit"));
            }
            sink.write(block)
        });
        if size > max_bytes {
            return Err(DecodeError::TooLarge { max_bytes });
        }
        decoded?;
        sink.end()?;
        let facts = sink.into_facts().pop();
        Ok(facts.ok_or_else(|| io::Error::other("a sink that was ended has facts"))?)
    }

    pub(super) fn collect_leaves<'p>(&'p self, leaves: &mut Vec<&'p Part<'a>>) {
        if self.children.is_empty() && !self.is_multipart() {
            leaves.push(self);
        }
        for child in &self.children {
            child.collect_leaves(leaves);
        }
    }
}

/// A value with parameters, as Content-Type and Content-Disposition have it.
struct Structured {
    /// The word before the first slash or semicolon.
    word: String,
    /// `type/subtype` in lower case, if it is well-formed.
    essence: Option<String>,
    parameters: Vec<(String, String)>,
}

impl Structured {
    /// RFC 2231 and, where the field misuses them, encoded words in parameters are decoded.
    fn read(value: &[u8]) -> Option<Self> {
        let terminated = terminated(value);
        match MessageStream::new(&terminated).parse_content_type() {
            HeaderValue::ContentType(parsed) => Some(Self::of(&parsed)),
            _ => None,
        }
    }

    fn of(parsed: &ContentType<'_>) -> Self {
        let written = parsed
            .subtype()
            .map(|subtype| format!("{}/{subtype}", parsed.ctype()));
        let media_type = written.and_then(|written| written.parse::<MediaType>().ok());
        let attributes = parsed.attributes().unwrap_or_default().iter();
        Self {
            word: parsed.ctype().to_owned(),
            essence: media_type.map(|media_type| media_type.as_str().to_ascii_lowercase()),
            parameters: attributes
                .map(|own| (own.name.to_ascii_lowercase(), own.value.to_string()))
                .collect(),
        }
    }
}

fn find<'p>(parameters: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let mut matching = parameters.iter().filter(|(own, _)| own == name);
    matching.next().map(|(_, value)| value.as_str())
}

/// The last segment of a path, without control characters; none for a name that names nothing (T-9).
fn file_name(written: &str) -> Option<String> {
    let last = written.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = clean(last)?.chars().take(MAX_FILE_NAME_CHARS).collect();
    (!matches!(name.as_str(), "." | "..")).then_some(name)
}
