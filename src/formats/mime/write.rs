//! Writes MIME messages (RFC 5322, RFC 2045 to 2047, RFC 2231) as octets that may be signed: CRLF only, 7-bit clean,
//! no line over 998 octets (SM-51, SM-52).
//!
//! What comes from outside enters a header only through a type that cannot hold CR or LF ([`HeaderText`],
//! [`FileName`], [`MediaType`], the ids of [`crate::formats::ids`]), so nobody injects a field (SOAP-162, T-11e).

use std::{
    fmt,
    io::{self, Write},
    str::FromStr,
};

use base64_simd::STANDARD;
use jiff::{Timestamp, tz::TimeZone};

use super::base64_lines::Base64Lines;
use crate::formats::{
    document::hex,
    ids::{DirectAddress, MessageId},
};

/// A header line should be no longer (RFC 5322 §2.1.1).
const GOOD_LINE_BYTES: usize = 78;
/// A line must be no longer (RFC 5322 §2.1.1).
const MAX_LINE_BYTES: usize = 998;
/// Octets in one encoded word, so that the word has at most 75 characters (RFC 2047 §2).
const ENCODED_WORD_OCTETS: usize = 45;
/// A line that holds an encoded word must be no longer (RFC 2047 §2).
const ENCODED_LINE_CHARS: usize = 76;
/// What stands around the base64 text of an encoded word.
const ENCODED_WORD_FRAME_CHARS: usize = "=?UTF-8?B??=".len();
/// Characters of a parameter value in one section (RFC 2231 §3).
const PARAMETER_SECTION_CHARS: usize = 54;
/// Longest media type that is taken.
const MAX_MEDIA_TYPE_BYTES: usize = 127;
/// Longest name of a charset that is taken (RFC 2978 §2.3).
const MAX_CHARSET_BYTES: usize = 40;

/// Why a text may not stand in a header. The text itself is not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// CR, LF or another control character.
    #[error("SOAP-162: a header value may hold no control character")]
    ControlCharacter,
    /// Not `type/subtype`.
    #[error("MD-56: a media type has the form type/subtype")]
    MediaType,
    /// Empty, or with a path separator.
    #[error("T-9: a file name is not empty and holds no slash, backslash or colon")]
    FileName,
}

/// Text for a header field: any characters but control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderText(String);

impl HeaderText {
    /// The text with every run of control characters and white space turned into one space.
    pub fn cleaned(text: &str) -> Self {
        let words: Vec<&str> = text
            .split(|c: char| c.is_control() || c.is_whitespace() || is_line_separator(c))
            .filter(|word| !word.is_empty())
            .collect();
        Self(words.join(" "))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderText {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        if text.chars().any(|c| c.is_control() || is_line_separator(c)) {
            return Err(HeaderError::ControlCharacter);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Line and paragraph separator: no control characters for Unicode, yet some programs break lines at them.
fn is_line_separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// A media type, such as `text/xml` (MD-56), and its charset where one is given; other parameters are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    essence: String,
    charset: Option<String>,
}

impl MediaType {
    /// What is said of a document whose type is not known.
    pub fn octet_stream() -> Self {
        Self {
            essence: "application/octet-stream".into(),
            charset: None,
        }
    }

    /// The type without parameters.
    pub fn as_str(&self) -> &str {
        &self.essence
    }

    /// Whether it is made of parts or messages, which may not be encoded (RFC 2045 §6.4).
    pub fn is_composite(&self) -> bool {
        let main = self.essence.split('/').next().unwrap_or_default();
        main.eq_ignore_ascii_case("multipart") || main.eq_ignore_ascii_case("message")
    }
}

impl FromStr for MediaType {
    type Err = HeaderError;

    /// A charset that is no registered name's form is dropped like any other parameter.
    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let mut pieces = text.split(';');
        let bare = pieces.next().unwrap_or_default().trim();
        let charset = pieces.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim();
            let bare = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value);
            (name.trim().eq_ignore_ascii_case("charset") && is_charset(bare))
                .then(|| bare.to_owned())
        });
        let (main, sub) = bare.split_once('/').ok_or(HeaderError::MediaType)?;
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_!#$&^.+-".contains(&b))
        };
        if bare.len() <= MAX_MEDIA_TYPE_BYTES && is_name(main) && is_name(sub) {
            Ok(Self {
                essence: bare.to_owned(),
                charset,
            })
        } else {
            Err(HeaderError::MediaType)
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.essence)?;
        match &self.charset {
            Some(charset) => write!(f, "; charset={charset}"),
            None => Ok(()),
        }
    }
}

/// Whether it has the form of a charset's name (RFC 2978 §2.3), which is a token that needs no quotes.
fn is_charset(name: &str) -> bool {
    (1..=MAX_CHARSET_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'+-^_`{}~.".contains(&b))
}

/// The file name of an attachment: no path, no control characters (T-9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        if text.chars().any(|c| c.is_control() || is_line_separator(c)) {
            return Err(HeaderError::ControlCharacter);
        }
        if text.is_empty() || text == "." || text == ".." || text.contains(['/', '\\', ':']) {
            return Err(HeaderError::FileName);
        }
        Ok(Self(text.to_owned()))
    }
}

/// A multipart boundary. Each message has its own, and no line of a part can look like it: our parts are base64, or
/// text that is encoded if a line begins with `--`.
#[derive(Clone, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// The boundary at nesting `level` of the message `id`: unique as the Message-ID is, and the same each time the
    /// message is made (SND-6). `=_` cannot occur in base64 or quoted-printable text.
    pub fn of_message(id: &MessageId, level: u8) -> Self {
        let digest = openssl::sha::sha256(id.as_str().as_bytes());
        let short = digest.get(..16).unwrap_or(&digest);
        Self(format!("=_{level}_{}", hex(short)))
    }

    /// The boundary without the dashes before it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Header fields, folded, each ending with CRLF. Names are constants of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    text: String,
}

impl Header {
    /// A list of addresses, one on each line. Nothing for none.
    #[must_use]
    pub fn addresses(mut self, name: &'static str, addresses: &[DirectAddress]) -> Self {
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        if !list.is_empty() {
            self.text += &format!("{name}: {}\r\n", list.join(",\r\n "));
        }
        self
    }

    /// A date in UTC (RFC 5322 §3.3).
    #[must_use]
    pub fn date(mut self, name: &'static str, at: Timestamp) -> Self {
        let date = at.to_zoned(TimeZone::UTC);
        self.text += &format!(
            "{name}: {}\r\n",
            date.strftime("%a, %d %b %Y %H:%M:%S +0000")
        );
        self
    }

    /// Message-IDs in angle brackets, one on each line. Nothing for none.
    #[must_use]
    pub fn message_ids(mut self, name: &'static str, ids: &[&MessageId]) -> Self {
        let list: Vec<String> = ids.iter().map(|id| format!("<{id}>")).collect();
        if let Some(first) = list.first() {
            // A very long id goes to a line of its own.
            let gap = if name.len() + 2 + first.len() > MAX_LINE_BYTES {
                "\r\n "
            } else {
                " "
            };
            self.text += &format!("{name}:{gap}{}\r\n", list.join("\r\n "));
        }
        self
    }

    /// Free text: as it is where it is plain ASCII, else in encoded words (RFC 2047).
    #[must_use]
    pub fn text(mut self, name: &'static str, text: &HeaderText) -> Self {
        let column = name.len() + 2;
        let folded = fold(&text.0, column)
            .or_else(|| encode_up_to_plain_tail(&text.0, column))
            .unwrap_or_else(|| encoded_words(&text.0, column));
        self.text += &format!("{name}: {folded}\r\n");
        self
    }

    /// A value that is a constant of the program.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: &'static str) -> Self {
        self.text += &format!("{name}: {value}\r\n");
        self
    }

    /// A value in plain ASCII, on the field's own line. Control characters cannot come from the types that values are
    /// made of; should one do, it turns into a space.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        let value: String = value
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        // No space at the end of a line: it may not survive the way, and the signature with it (SM-52).
        let field = format!("{name}: {value}");
        self.text += field.trim_end();
        self.text += "\r\n";
        self
    }

    /// The end of a block of fields, where a report has several (RFC 3464 §2.1).
    #[must_use]
    pub fn blank_line(mut self) -> Self {
        self.text += "\r\n";
        self
    }

    /// `Content-Type` of a multipart entity, the boundary quoted (SM-56).
    #[must_use]
    pub fn multipart(mut self, subtype: &'static str, boundary: &Boundary) -> Self {
        self.text += &format!(
            "Content-Type: multipart/{subtype};\r\n boundary=\"{}\"\r\n",
            boundary.0
        );
        self
    }

    /// The fields, without the blank line that ends a header.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Writes the fields and the blank line that ends the header.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.text.as_bytes())?;
        out.write_all(b"\r\n")
    }

    /// The fields of an attachment in base64.
    fn attachment(media_type: &MediaType, name: &FileName) -> Self {
        Self {
            text: format!(
                "Content-Type: {};{}\r\n\
                 Content-Transfer-Encoding: base64\r\n\
                 Content-Disposition: attachment;{}\r\n",
                media_type,
                parameter("name", &name.0),
                parameter("filename", &name.0),
            ),
        }
    }
}

/// A multipart entity that is being written, part by part.
pub struct Multipart<W: Write> {
    out: W,
    boundary: Boundary,
}

impl<W: Write> Multipart<W> {
    /// Writes `header`, which names `boundary`, and begins the body. Parameters may follow the subtype.
    pub fn begin(
        header: Header,
        subtype: &'static str,
        boundary: Boundary,
        mut out: W,
    ) -> io::Result<Self> {
        header.multipart(subtype, &boundary).write_to(&mut out)?;
        Ok(Self { out, boundary })
    }

    /// A text part in UTF-8: as it is where that is safe to sign, else in base64.
    pub fn text_part(&mut self, text: &str) -> io::Result<()> {
        self.delimiter()?;
        if is_safe_text(text) {
            Header::default()
                .constant("Content-Type", "text/plain; charset=us-ascii")
                .constant("Content-Transfer-Encoding", "7bit")
                .write_to(&mut self.out)?;
            for line in text.lines() {
                self.out.write_all(line.as_bytes())?;
                self.out.write_all(b"\r\n")?;
            }
            return Ok(());
        }
        Header::default()
            .constant("Content-Type", "text/plain; charset=utf-8")
            .constant("Content-Transfer-Encoding", "base64")
            .write_to(&mut self.out)?;
        let mut encoder = Base64Lines::new(&mut self.out);
        for line in text.lines() {
            encoder.write_all(line.as_bytes())?;
            encoder.write_all(b"\r\n")?;
        }
        encoder.finish()?;
        Ok(())
    }

    /// A part of fields alone: the report of a notification, 7 bit (MDN-26).
    pub fn report_part(&mut self, media_type: &'static str, report: &Header) -> io::Result<()> {
        self.delimiter()?;
        Header::default()
            .constant("Content-Type", media_type)
            .constant("Content-Transfer-Encoding", "7bit")
            .write_to(&mut self.out)?;
        self.out.write_all(report.text.as_bytes())
    }

    /// Begins an attachment in base64: write its octets, then [`Attachment::finish`] gives the entity back.
    pub fn attachment(
        mut self,
        media_type: &MediaType,
        name: &FileName,
    ) -> io::Result<Attachment<W>> {
        self.delimiter()?;
        Header::attachment(media_type, name).write_to(&mut self.out)?;
        Ok(Attachment {
            encoder: Base64Lines::new(self.out),
            boundary: self.boundary,
        })
    }

    /// Ends the entity.
    pub fn end(mut self) -> io::Result<()> {
        write!(self.out, "--{}--\r\n", self.boundary.0)
    }

    /// Every part ends with CRLF already, so its last line end belongs to the delimiter (RFC 2046 §5.1.1).
    fn delimiter(&mut self) -> io::Result<()> {
        write!(self.out, "--{}\r\n", self.boundary.0)
    }
}

/// The octets of one attachment.
pub struct Attachment<W: Write> {
    encoder: Base64Lines<W>,
    boundary: Boundary,
}

impl<W: Write> Attachment<W> {
    /// Ends the attachment.
    pub fn finish(self) -> io::Result<Multipart<W>> {
        Ok(Multipart {
            out: self.encoder.finish()?,
            boundary: self.boundary,
        })
    }
}

impl<W: Write> Write for Attachment<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.encoder.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

/// Whether text survives mail systems as it is (SM-52).
fn is_safe_text(text: &str) -> bool {
    text.lines().all(|line| {
        line.len() <= GOOD_LINE_BYTES
            && line
                .bytes()
                .all(|b| b == b'\t' || (b' '..=b'~').contains(&b))
            && !line.starts_with("--")
            && !line.starts_with("From ")
            && line != "."
            && !line.ends_with([' ', '\t'])
    })
}

/// Plain ASCII words, folded at single spaces; `None` if the text needs encoding.
fn fold(text: &str, column: usize) -> Option<String> {
    let is_plain = text.bytes().all(|b| (b' '..=b'~').contains(&b)) && !text.contains("=?");
    if !is_plain {
        return None;
    }
    let mut folded = String::with_capacity(text.len() + 8);
    let mut column = column;
    for (index, word) in text.split(' ').enumerate() {
        // Double spaces and spaces at the ends would be lost on the way.
        if word.is_empty() || word.len() >= GOOD_LINE_BYTES {
            return None;
        }
        if index > 0 && column + 1 + word.len() > GOOD_LINE_BYTES {
            folded.push_str("\r\n ");
            column = 1;
        } else if index > 0 {
            folded.push(' ');
            column += 1;
        }
        folded.push_str(word);
        column += word.len();
    }
    Some(folded)
}

/// Encodes up to the last word that needs it, and leaves the rest readable for those who search the raw header.
fn encode_up_to_plain_tail(text: &str, column: usize) -> Option<String> {
    let (last, _) = text
        .char_indices()
        .rfind(|(_, c)| !matches!(c, ' '..='~'))?;
    let (head, tail) = text.split_at_checked(last + text.get(last..)?.find(' ')?)?;
    // White space between an encoded word and plain text counts (RFC 2047 §6.2): here it is the one of the fold.
    let plain = fold(tail.strip_prefix(' ')?, 1)?;
    Some(format!("{}\r\n {plain}", encoded_words(head, column)))
}

/// RFC 2047 encoded words in base64, none cutting a character, one on each line.
fn encoded_words(text: &str, column: usize) -> String {
    let room = ENCODED_LINE_CHARS.saturating_sub(column + ENCODED_WORD_FRAME_CHARS);
    // The first word shares its line with the field name; at least one character goes into each.
    let mut most = (room / 4 * 3).clamp(char::MAX.len_utf8(), ENCODED_WORD_OCTETS);
    let mut words = Vec::new();
    let mut chunk = String::new();
    for character in text.chars() {
        if chunk.len() + character.len_utf8() > most {
            most = ENCODED_WORD_OCTETS;
            words.push(encoded_word(&chunk));
            chunk.clear();
        }
        chunk.push(character);
    }
    if !chunk.is_empty() {
        words.push(encoded_word(&chunk));
    }
    words.join("\r\n ")
}

fn encoded_word(text: &str) -> String {
    format!("=?UTF-8?B?{}?=", STANDARD.encode_to_string(text))
}

/// A parameter with the fold before it: quoted where it is printable ASCII that fits its line, else by RFC 2231.
fn parameter(name: &str, value: &str) -> String {
    let is_plain = value
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\');
    // The line is: a space, the name, `="`, the value, `"`, and perhaps the `;` of a next parameter.
    if is_plain && 1 + name.len() + 2 + value.len() + 2 <= GOOD_LINE_BYTES {
        return format!("\r\n {name}=\"{value}\"");
    }
    let mut sections = vec![String::from("UTF-8''")];
    for character in value.chars() {
        let mut octets = [0; 4];
        let encoded: String = character
            .encode_utf8(&mut octets)
            .bytes()
            .map(|octet| {
                // RFC 2231 §7 attribute-char.
                if octet.is_ascii_alphanumeric() || b"!#$&+-.^_`{|}~".contains(&octet) {
                    char::from(octet).to_string()
                } else {
                    format!("%{octet:02X}")
                }
            })
            .collect();
        match sections.last_mut() {
            Some(last) if last.len() + encoded.len() <= PARAMETER_SECTION_CHARS => {
                last.push_str(&encoded);
            }
            _ => sections.push(encoded),
        }
    }
    match sections.as_slice() {
        [only] => format!("\r\n {name}*={only}"),
        several => (0..)
            .zip(several)
            .map(|(number, section)| format!("\r\n {name}*{number}*={section}"))
            .collect::<Vec<_>>()
            .join(";"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::MimeHeaders as _;
    use proptest::prelude::*;

    fn id() -> MessageId {
        "1@direct.harbor.example".parse().unwrap()
    }

    /// A whole message with one text part and one attachment.
    fn message(subject: &HeaderText, body: &str, name: &FileName, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let header = Header::default()
            .addresses("From", &["rui@direct.harbor.example".parse().unwrap()])
            .text("Subject", subject)
            .date("Date", "2026-11-22T08:05:09Z".parse().unwrap())
            .message_ids("Message-ID", &[&id()])
            .constant("MIME-Version", "1.0");
        let boundary = Boundary::of_message(&id(), 0);
        let mut parts = Multipart::begin(header, "mixed", boundary, &mut out).unwrap();
        parts.text_part(body).unwrap();
        let media_type = "application/zip".parse().unwrap();
        let mut attachment = parts.attachment(&media_type, name).unwrap();
        attachment.write_all(octets).unwrap();
        attachment.finish().unwrap().end().unwrap();
        out
    }

    fn assert_may_be_signed(octets: &[u8]) {
        let text = std::str::from_utf8(octets).unwrap();
        assert!(text.is_ascii());
        assert!(text.ends_with("\r\n"));
        assert!(
            text.split("\r\n")
                .all(|line| line.len() <= 998 && !line.contains(['\r', '\n']))
        );
    }

    // rule: CC-2, XDM-51, SM-56
    #[test]
    fn a_plain_message_reads_as_it_should() {
        let subject = "XDM/1.0/DDM".parse().unwrap();
        let name = "XDM00001.ZIP".parse().unwrap();
        let text = String::from_utf8(message(&subject, "Hello.\nBye.\n", &name, b"PK")).unwrap();
        let boundary = Boundary::of_message(&id(), 0).0;
        assert!(boundary.len() <= 70);
        assert_eq!(
            text,
            format!(
                "From: rui@direct.harbor.example\r\n\
                 Subject: XDM/1.0/DDM\r\n\
                 Date: Sun, 22 Nov 2026 08:05:09 +0000\r\n\
                 Message-ID: <1@direct.harbor.example>\r\n\
                 MIME-Version: 1.0\r\n\
                 Content-Type: multipart/mixed;\r\n boundary=\"{boundary}\"\r\n\
                 \r\n\
                 --{boundary}\r\n\
                 Content-Type: text/plain; charset=us-ascii\r\n\
                 Content-Transfer-Encoding: 7bit\r\n\
                 \r\n\
                 Hello.\r\n\
                 Bye.\r\n\
                 --{boundary}\r\n\
                 Content-Type: application/zip;\r\n name=\"XDM00001.ZIP\"\r\n\
                 Content-Transfer-Encoding: base64\r\n\
                 Content-Disposition: attachment;\r\n filename=\"XDM00001.ZIP\"\r\n\
                 \r\n\
                 UEs=\r\n\
                 --{boundary}--\r\n"
            )
        );
    }

    // rule: SOAP-162, T-11e
    #[test]
    fn no_line_break_gets_into_a_header() {
        for bad in [
            "a\r\nBcc: x@y.example",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\u{85}b",
            "a\u{2028}b",
        ] {
            assert_eq!(
                bad.parse::<HeaderText>(),
                Err(HeaderError::ControlCharacter)
            );
            assert_eq!(bad.parse::<FileName>(), Err(HeaderError::ControlCharacter));
            assert_eq!(
                format!("text/{bad}").parse::<MediaType>(),
                Err(HeaderError::MediaType)
            );
            assert!(
                !HeaderText::cleaned(bad)
                    .as_str()
                    .contains(['\r', '\n', '\0'])
            );
        }
        assert_eq!(HeaderText::cleaned(" a\r\n\t b ").as_str(), "a b");
        for bad in ["", "..", "a/b", "a\\b", "c:x"] {
            assert_eq!(bad.parse::<FileName>(), Err(HeaderError::FileName));
        }
    }

    // rule: XDR-87, MD-56, T-11e
    #[test]
    fn of_a_media_type_the_charset_goes_along_and_nothing_else() {
        for (given, written) in [
            ("text/xml", "text/xml"),
            (
                "text/plain; charset=ISO-8859-1",
                "text/plain; charset=ISO-8859-1",
            ),
            (
                "text/plain ;format=flowed; Charset=\"utf-8\"",
                "text/plain; charset=utf-8",
            ),
            ("text/plain; charset=", "text/plain"),
            ("text/plain; charset=\"a b\"", "text/plain"),
            ("text/plain; charset=a\r\nBcc: x@y.example", "text/plain"),
            (
                &format!("text/plain; charset={}", "x".repeat(41)),
                "text/plain",
            ),
        ] {
            let media_type: MediaType = given.parse().unwrap();
            assert_eq!(media_type.to_string(), written, "{given:?}");
            assert_eq!(media_type.as_str(), written.split(';').next().unwrap());
        }
        for (given, is_composite) in [
            ("multipart/related; boundary=x", true),
            ("Message/RFC822", true),
            ("text/multipart", false),
        ] {
            let media_type: MediaType = given.parse().unwrap();
            assert_eq!(media_type.is_composite(), is_composite, "{given}");
        }
    }

    #[test]
    fn lines_with_encoded_words_have_76_characters_at_most() {
        for subject in ["\u{e4}".repeat(200), "\u{1f600}".repeat(60)] {
            let header = Header::default().text("Subject", &subject.parse().unwrap());
            let text = header.as_str();
            assert!(text.lines().all(|line| line.len() <= 76), "{text}");
            assert!(
                text.lines()
                    .next()
                    .unwrap()
                    .starts_with("Subject: =?UTF-8?B?")
            );
        }
    }

    #[test]
    fn a_plain_name_is_quoted_as_long_as_its_line_fits() {
        for (name, most) in [("name", 69), ("filename", 65)] {
            let quoted = parameter(name, &"x".repeat(most));
            assert_eq!(quoted, format!("\r\n {name}=\"{}\"", "x".repeat(most)));
            assert_eq!(quoted.len() - 2 + 1, 78);
            assert!(parameter(name, &"x".repeat(most + 1)).contains("*0*="));
        }
    }

    // rule: ADR-4, SM-51
    #[test]
    fn recipients_with_international_domains_leave_the_header_ascii() {
        let to = ["ada@h\u{e4}fen.example", "ngozi@harbor.example."].map(|a| a.parse().unwrap());
        let header = Header::default().addresses("To", &to);
        assert!(header.as_str().is_ascii(), "{header:?}");
        assert!(!header.as_str().contains(".\r\n"), "{header:?}");
    }

    // rule: SM-52
    #[test]
    fn text_that_mail_systems_would_change_is_encoded() {
        for text in ["From here", ".", "-- x", "end ", "é", &"x".repeat(79)] {
            let name = "A.ZIP".parse().unwrap();
            let octets = message(&"s".parse().unwrap(), text, &name, b"");
            assert_may_be_signed(&octets);
            let read = mail_parser::MessageParser::default()
                .parse(&octets)
                .unwrap();
            assert_eq!(read.body_text(0).unwrap().trim_end_matches("\r\n"), text);
            assert!(!String::from_utf8(octets).unwrap().contains("7bit"));
        }
    }

    proptest! {
        // rule: SM-51, SM-52, CC-11
        #[test]
        fn whatever_is_written_may_be_signed_and_reads_back(
            subject in "[ -~]{0,120}|[^\\p{C}\\p{Zl}\\p{Zp}]{0,200}",
            body in "[ -~\r\n]{0,200}|\\PC{0,100}",
            name in "[A-Za-z0-9._ -]{1,90}|[^\\p{C}\\p{Z}/\\\\:]{1,120}",
            octets in proptest::collection::vec(any::<u8>(), 0..5_000),
        ) {
            prop_assume!(name.trim() == name && name != "." && name != "..");
            let written = message(
                &subject.parse().unwrap(),
                &body,
                &name.parse().unwrap(),
                &octets,
            );
            assert_may_be_signed(&written);
            let read = mail_parser::MessageParser::default().parse(&written).unwrap();
            let words = |text: &str| text.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(read.subject().unwrap_or_default()), words(&subject));
            let attachment = read.attachment(0).unwrap();
            prop_assert_eq!(attachment.contents(), octets.as_slice());
            prop_assert_eq!(attachment.attachment_name(), Some(name.as_str()));
        }
    }
}
