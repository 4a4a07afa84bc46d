//! Whether a mail is sealed for us, told in one pass and in little memory: the answer in the session (smtp.md section 5)
//! must not cost a multiple of the mail.
//!
//! What decides stands in front: header, content type, RecipientInfos. They are kept, under a limit; the encrypted
//! content is walked over, to see that the CMS is whole.

use std::{
    cmp::Ordering,
    io::{self, BufRead, BufReader, Read},
};

use openssl::x509::X509Ref;

use super::{
    ber::{
        self, CmsKind, LengthForm, MAX_DEPTH, TAG_CONTEXT_0, TAG_OID, TAG_SEQUENCE, TAG_SET,
        malformed,
    },
    entity::{Entity, MAX_HEADER_BYTES, bad_base64},
    ffi::CmsReader,
    open::OpenError,
};
use crate::formats::{
    limits::Limits,
    mime::read::{Base64Blocks, DecodeError},
};

/// Most octets that stand before the encrypted content: 64 RecipientInfos with long names and wrapped keys take a third.
const MAX_FRONT_BYTES: usize = 1024 * 1024;
/// Most `Received` fields, that of the hop at hand among them (LOOP-3).
const MAX_RECEIVED_FIELDS: usize = 51;
/// Octets read at once.
const BLOCK_BYTES: usize = 32 * 1024;

/// Why a mail is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// It is not sealed for us, or not whole.
    #[error(transparent)]
    Refused(#[from] OpenError),
    /// It has passed through too many hosts.
    #[error(
        "more than {MAX_RECEIVED_FIELDS} Received fields: the mail goes round in a loop (LOOP-3)"
    )]
    Loop,
    /// It could not be read.
    #[error("the mail could not be read")]
    Read(#[from] io::Error),
}

/// Whether `mail` is sealed for one of `certificates`, and whole as far as can be told without a private key's work.
/// It is read to its end only if it is.
///
/// Memory: some 100 KiB, the header and what stands before the encrypted content, which are limited to 256 KiB and 1 MiB.
pub fn is_sealed_for(
    mail: &mut dyn Read,
    certificates: &[&X509Ref],
    limits: &Limits,
) -> Result<(), FrontError> {
    let mut mail = BufReader::with_capacity(BLOCK_BYTES, mail);
    let header = read_header(&mut mail)?;
    if received_fields(&header) > MAX_RECEIVED_FIELDS {
        return Err(FrontError::Loop);
    }
    let outer = Entity::read(&header)?;
    if !outer.is_pkcs7_mime() {
        return Err(OpenError::NotEncrypted.into());
    }
    let base64 = outer
        .is_base64()?
        .then(|| Base64Blocks::for_text(BLOCK_BYTES));
    let mut cms = Octets::new(mail, base64);
    let mut open = vec![cms.begin(TAG_SEQUENCE)?];
    let mut oid = Vec::new();
    cms.keep(TAG_OID, &mut oid)?;
    let kind = ber::kind_of_type(&oid)?;
    if kind == CmsKind::Signed {
        return Err(OpenError::NotEncrypted.into());
    }
    open.push(cms.begin(TAG_CONTEXT_0)?);
    open.push(cms.begin(TAG_SEQUENCE)?);
    let mut parts = Vec::new();
    // Version, OriginatorInfo where there is one, RecipientInfos (RFC 5652 §6.1, RFC 5083 §2.1).
    cms.keep_any(&mut parts)?;
    let (mut tag, mut length) = cms.head(Some(&mut parts))?;
    if tag == TAG_CONTEXT_0 {
        cms.keep_content(length, usize::MAX, &mut parts)?;
        (tag, length) = cms.head(Some(&mut parts))?;
    }
    if tag != TAG_SET {
        return Err(ber::missing().into());
    }
    // Those inside one KeyAgreeRecipientInfo are counted below.
    cms.keep_content(length, limits.max_recipient_infos, &mut parts)?;
    // The encrypted content's type and cipher.
    open.push(cms.begin(TAG_SEQUENCE)?);
    let mut content = Vec::new();
    cms.keep(TAG_OID, &mut content)?;
    cms.keep(TAG_SEQUENCE, &mut content)?;

    let front = without_content(kind, &oid, parts, &content);
    ber::survey(&front, limits)?;
    let envelope = CmsReader::from_ber(&front).map_err(OpenError::from)?;
    let mut certificates = certificates.iter();
    if !certificates.any(|certificate| envelope.recipient_algorithm(certificate).is_some()) {
        return Err(OpenError::NotForUs.into());
    }
    while let Some(level) = open.pop() {
        cms.end(level, open.len())?;
    }
    if cms.next()?.is_some() {
        return Err(malformed("octets follow the CMS").into());
    }
    Ok(())
}

/// The header with the blank line that ends it.
fn read_header(mail: &mut impl BufRead) -> Result<Vec<u8>, FrontError> {
    let mut header = Vec::new();
    loop {
        let start = header.len();
        let left = (MAX_HEADER_BYTES + 1).saturating_sub(start);
        let mut line = mail.by_ref().take(left as u64);
        line.read_until(b'\n', &mut header)?;
        if header.len() > MAX_HEADER_BYTES {
            return Err(malformed("the header is larger than 256 KiB").into());
        }
        if matches!(header.get(start..), Some(b"" | b"\r\n" | b"\n")) {
            return Ok(header);
        }
    }
}

/// How many hosts have passed the mail on (RFC 5321 §6.3).
fn received_fields(header: &[u8]) -> usize {
    const NAME: &[u8] = b"received";
    let lines = header.split(|octet| *octet == b'\n');
    let is_received = |line: &&[u8]| {
        line.split_at_checked(NAME.len())
            .is_some_and(|(name, rest)| {
                name.eq_ignore_ascii_case(NAME) && rest.trim_ascii_start().starts_with(b":")
            })
    };
    lines.filter(is_received).count()
}

/// The same CMS without its encrypted content, which is optional (RFC 5652 §6.1); lengths are definite.
fn without_content(kind: CmsKind, oid: &[u8], parts: Vec<u8>, content: &[u8]) -> Vec<u8> {
    let mut body = parts;
    body.extend(ber::wrap(TAG_SEQUENCE, content));
    if kind == CmsKind::AuthEnveloped {
        // An empty mac: it may not be left out (RFC 5083 §2.1).
        body.extend([ber::TAG_OCTETS, 0]);
    }
    let body = ber::wrap(TAG_CONTEXT_0, &ber::wrap(TAG_SEQUENCE, &body));
    ber::wrap(TAG_SEQUENCE, &[oid, &body].concat())
}

/// An element that was begun and not yet ended: where its content ends, or that a mark ends it.
enum Level {
    Until(u64),
    Marked,
}

/// The octets of a CMS, its transfer encoding taken away block by block, read element by element.
struct Octets<R> {
    source: R,
    /// `None` where the body is as it is.
    base64: Option<Base64Blocks>,
    is_at_end: bool,
    block: Vec<u8>,
    at: usize,
    /// Octets that were read.
    position: u64,
}

impl<R: BufRead> Octets<R> {
    fn new(source: R, base64: Option<Base64Blocks>) -> Self {
        Self {
            source,
            base64,
            is_at_end: false,
            block: Vec::new(),
            at: 0,
            position: 0,
        }
    }

    /// What is decoded and not yet read; empty at the end alone.
    fn ready(&mut self) -> Result<&[u8], FrontError> {
        while self.at == self.block.len() && !self.is_at_end {
            self.block.clear();
            self.at = 0;
            let block = &mut self.block;
            let mut out = |octets: &[u8]| {
                block.extend_from_slice(octets);
                Ok(())
            };
            let text = self.source.fill_buf()?;
            let length = text.len();
            self.is_at_end = length == 0;
            match &mut self.base64 {
                Some(base64) if length == 0 => base64.finish(&mut out),
                Some(base64) => base64.feed(text, &mut out),
                None => out(text).map_err(DecodeError::Io),
            }
            .map_err(|_| bad_base64())?;
            self.source.consume(length);
        }
        Ok(self.block.get(self.at..).unwrap_or_default())
    }

    fn next(&mut self) -> Result<Option<u8>, FrontError> {
        let next = self.ready()?.first().copied();
        self.at += usize::from(next.is_some());
        self.position += u64::from(next.is_some());
        Ok(next)
    }

    /// Passes `length` octets over, or adds them to `kept`.
    fn pass(&mut self, length: u64, mut kept: Option<&mut Vec<u8>>) -> Result<(), FrontError> {
        let mut left = length;
        while left > 0 {
            let ready = self.ready()?;
            if ready.is_empty() {
                return Err(ber::truncated().into());
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let run = ready.get(..most).unwrap_or(ready);
            if let Some(kept) = &mut kept {
                keep(kept, run)?;
            }
            let length = run.len();
            self.at += length;
            self.position += length as u64;
            left -= length as u64;
        }
        Ok(())
    }

    /// Reads a tag and a length, `None` for one that a mark ends. Both go to `kept`.
    fn head(&mut self, mut kept: Option<&mut Vec<u8>>) -> Result<(u8, Option<u64>), FrontError> {
        let mut octet = |octets: &mut Self| -> Result<u8, FrontError> {
            let octet = octets.next()?.ok_or_else(ber::truncated)?;
            if let Some(kept) = &mut kept {
                keep(kept, &[octet])?;
            }
            Ok(octet)
        };
        let (tag, first) = (octet(self)?, octet(self)?);
        let length = match ber::length_form(tag, first)? {
            LengthForm::Marked => None,
            LengthForm::Short(length) => Some(length),
            LengthForm::Long(octets) => {
                let mut length = 0;
                for _ in 0..octets {
                    length = length << 8 | u64::from(octet(self)?);
                }
                Some(length)
            }
        };
        Ok((tag, length))
    }

    /// Begins an element of this tag.
    fn begin(&mut self, tag: u8) -> Result<Level, FrontError> {
        let (found, length) = self.head(None)?;
        if found != tag {
            return Err(ber::missing().into());
        }
        Ok(self.level(length))
    }

    fn level(&self, length: Option<u64>) -> Level {
        match length {
            Some(length) => Level::Until(self.position.saturating_add(length)),
            None => Level::Marked,
        }
    }

    /// Passes over what is left of an element that `depth` others are around.
    fn end(&mut self, level: Level, depth: usize) -> Result<(), FrontError> {
        self.end_keeping(&level, depth, usize::MAX, None)
    }

    /// The same, and adds it to `kept`; more members than `max` are refused, as RecipientInfos.
    fn end_keeping(
        &mut self,
        level: &Level,
        depth: usize,
        max: usize,
        mut kept: Option<&mut Vec<u8>>,
    ) -> Result<(), FrontError> {
        if depth >= MAX_DEPTH {
            return Err(malformed("elements are nested too deeply").into());
        }
        let mut members = 0;
        loop {
            if let Level::Until(end) = level {
                match self.position.cmp(end) {
                    Ordering::Less => {}
                    Ordering::Equal => return Ok(()),
                    Ordering::Greater => return Err(ber::truncated().into()),
                }
            }
            let (tag, length) = self.head(kept.as_deref_mut())?;
            if matches!(level, Level::Marked) && (tag, length) == (0, Some(0)) {
                return Ok(());
            }
            members += 1;
            if members > max {
                return Err(ber::over("RecipientInfos", max).into());
            }
            match length {
                Some(length) => self.pass(length, kept.as_deref_mut())?,
                None => {
                    let kept = kept.as_deref_mut();
                    self.end_keeping(&Level::Marked, depth + 1, usize::MAX, kept)?;
                }
            }
        }
    }

    /// Adds a whole element to `kept`; gives its tag.
    fn keep_any(&mut self, kept: &mut Vec<u8>) -> Result<u8, FrontError> {
        let (tag, length) = self.head(Some(kept))?;
        match length {
            Some(length) => self.pass(length, Some(kept))?,
            None => self.keep_content(None, usize::MAX, kept)?,
        }
        Ok(tag)
    }

    /// Adds the content of an element to `kept`, member by member.
    fn keep_content(
        &mut self,
        length: Option<u64>,
        max: usize,
        kept: &mut Vec<u8>,
    ) -> Result<(), FrontError> {
        let level = self.level(length);
        self.end_keeping(&level, 0, max, Some(kept))
    }

    /// The same with an element that must have this tag.
    fn keep(&mut self, tag: u8, kept: &mut Vec<u8>) -> Result<(), FrontError> {
        if self.keep_any(kept)? == tag {
            Ok(())
        } else {
            Err(ber::missing().into())
        }
    }
}

fn keep(kept: &mut Vec<u8>, octets: &[u8]) -> Result<(), OpenError> {
    if kept.len() + octets.len() > MAX_FRONT_BYTES {
        return Err(OpenError::TooMany {
            what: "octets before the encrypted content",
            limit: MAX_FRONT_BYTES,
        });
    }
    kept.extend_from_slice(octets);
    Ok(())
}
