//! The front of an encrypted mail: what stands before its encrypted content, read in one pass and in little memory. The
//! answer in the session, whether the mail is sealed for us (smtp.md section 5), must not cost a multiple of the mail.
//!
//! What decides stands in front: header, content type, RecipientInfos. They are kept, under a limit; the encrypted
//! content is walked over, to see that the CMS is whole, or handed on piece by piece to be decrypted.

use std::io::{self, BufRead, BufReader, Read};

use openssl::x509::X509Ref;

use super::{
    ber::{self, CmsKind, TAG_CONTEXT_0, TAG_OID, TAG_SEQUENCE, TAG_SET, malformed},
    entity::{Entity, MAX_HEADER_BYTES},
    ffi::CmsReader,
    octets::{Level, Octets},
    open::OpenError,
};
use crate::formats::{limits::Limits, mime::read::Base64Lines};

/// Most `Received` fields, that of the hop at hand among them (LOOP-3).
const MAX_RECEIVED_FIELDS: usize = 51;
/// Octets read at once.
const BLOCK_BYTES: usize = 32 * 1024;

/// Why a mail is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// It is not sealed for us, or not whole.
    #[error(transparent)]
    Refused(OpenError),
    /// It has passed through too many hosts.
    #[error(
        "more than {MAX_RECEIVED_FIELDS} Received fields: the mail goes round in a loop (LOOP-3)"
    )]
    Loop,
    /// It could not be read.
    #[error("the mail could not be read")]
    Read(#[from] io::Error),
}

impl From<OpenError> for FrontError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Read(failure) => Self::Read(failure),
            refusal => Self::Refused(refusal),
        }
    }
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
    let front = Front::behind(header, mail, limits)?;
    let mut certificates = certificates.iter();
    if !certificates.any(|found| front.envelope.recipient_algorithm(found).is_some()) {
        return Err(OpenError::NotForUs.into());
    }
    Ok(front.rest.end()?)
}

/// An encrypted mail that was read as far as its encrypted content.
pub(super) struct Front<R> {
    /// The mail's header with the blank line that ends it.
    pub(super) header: Vec<u8>,
    pub(super) kind: CmsKind,
    /// The OID of the content cipher, without its tag.
    pub(super) cipher: Vec<u8>,
    /// The CMS without its encrypted content.
    pub(super) envelope: CmsReader,
    pub(super) rest: Rest<R>,
}

/// What follows the front: the encrypted content, and what is behind it.
pub(super) struct Rest<R> {
    parts: CmsParts,
    cms: Octets<R>,
    /// The elements around the encrypted content.
    open: Vec<Level>,
}

impl<R: Read> Front<BufReader<R>> {
    /// Reads the front of `mail`.
    pub(super) fn read(mail: R, limits: &Limits) -> Result<Self, OpenError> {
        let mut mail = BufReader::with_capacity(BLOCK_BYTES, mail);
        let header = read_header(&mut mail)?;
        Self::behind(header, mail, limits)
    }
}

impl<R: BufRead> Front<R> {
    fn behind(header: Vec<u8>, body: R, limits: &Limits) -> Result<Self, OpenError> {
        let outer = Entity::read(&header)?;
        if !outer.is_pkcs7_mime() {
            return Err(OpenError::NotEncrypted);
        }
        let base64 = outer
            .is_base64()?
            .then(|| Base64Lines::for_text(BLOCK_BYTES));
        let mut cms = Octets::new(body, base64);
        let mut open = vec![cms.begin(TAG_SEQUENCE)?];
        let mut parts = CmsParts::default();
        cms.keep(TAG_OID, &mut parts.oid)?;
        let kind = ber::kind_of_type(&parts.oid)?;
        if kind == CmsKind::Signed {
            return Err(OpenError::NotEncrypted);
        }
        open.push(cms.begin(TAG_CONTEXT_0)?);
        open.push(cms.begin(TAG_SEQUENCE)?);
        // Version, OriginatorInfo where there is one, RecipientInfos (RFC 5652 §6.1, RFC 5083 §2.1).
        cms.keep_any(&mut parts.before)?;
        let (mut tag, mut length) = cms.head(Some(&mut parts.before))?;
        if tag == TAG_CONTEXT_0 {
            cms.keep_content(length, None, &mut parts.before)?;
            (tag, length) = cms.head(Some(&mut parts.before))?;
        }
        if tag != TAG_SET {
            return Err(ber::missing());
        }
        // Those inside one KeyAgreeRecipientInfo are counted below.
        let most = ("RecipientInfos", limits.max_recipient_infos);
        cms.keep_content(length, Some(most), &mut parts.before)?;
        // The encrypted content's type and cipher.
        open.push(cms.begin(TAG_SEQUENCE)?);
        cms.keep(TAG_OID, &mut parts.content_info)?;
        cms.keep(TAG_SEQUENCE, &mut parts.content_info)?;

        // An empty mac: it may not be left out (RFC 5083 §2.1).
        const NO_MAC: &[u8] = &[ber::TAG_OCTETS, 0];
        let after = match kind {
            CmsKind::AuthEnveloped => NO_MAC,
            CmsKind::Enveloped | CmsKind::Signed => &[],
        };
        let front = parts.cms(None, after);
        let cipher = ber::survey(&front, limits)?.cipher.to_vec();
        let envelope = CmsReader::from_ber(&front)?;
        Ok(Self {
            header,
            kind,
            cipher,
            envelope,
            rest: Rest { parts, cms, open },
        })
    }
}

impl<R: BufRead> Rest<R> {
    /// Reads the mail to its end, to see that it is whole.
    fn end(mut self) -> Result<(), OpenError> {
        while let Some(level) = self.open.pop() {
            self.cms.end(&level, self.open.len(), None, None)?;
        }
        self.cms.expect_end()
    }

    /// Hands the encrypted content to `out` and reads the mail to its end.
    pub(super) fn pour(
        mut self,
        limits: &Limits,
        out: &mut dyn FnMut(&[u8]) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let after = self.pour_content(out)?;
        // The attributes behind it are counted like all others.
        ber::survey(&self.parts.cms(None, &after), limits)?;
        self.end()
    }

    /// The whole CMS, the mail read to its end: libcrypto wants the mac, which comes last, before the content. Three
    /// copies of the content are held for a moment.
    pub(super) fn whole(mut self, limits: &Limits) -> Result<CmsReader, OpenError> {
        let mut content = Vec::new();
        let after = self.pour_content(&mut |octets| {
            content.extend_from_slice(octets);
            Ok(())
        })?;
        let cms = self.parts.cms(Some(&content), &after);
        drop(content);
        ber::survey(&cms, limits)?;
        let envelope = CmsReader::from_ber(&cms)?;
        self.end()?;
        Ok(envelope)
    }

    /// Hands the encrypted content to `out`; gives what follows it in EnvelopedData or AuthEnvelopedData.
    fn pour_content(
        &mut self,
        out: &mut dyn FnMut(&[u8]) -> Result<(), OpenError>,
    ) -> Result<Vec<u8>, OpenError> {
        let (Some(info), Some(data)) = (self.open.pop(), self.open.pop()) else {
            return Err(ber::missing());
        };
        if let Some(head) = self.cms.member(&info, None)? {
            let depth = self.open.len();
            self.cms.pour(head, TAG_CONTENT, depth, out)?;
            if self.cms.member(&info, None)?.is_some() {
                return Err(malformed("an unknown part of EncryptedContentInfo"));
            }
        }
        let mut after = Vec::new();
        let most = ("attributes", ber::MAX_ATTRIBUTES);
        self.cms.keep_members(&data, Some(most), &mut after)?;
        Ok(after)
    }
}

/// `[0] IMPLICIT OCTET STRING`, in its primitive form.
const TAG_CONTENT: u8 = 0x80;

/// The parts of a CMS around its encrypted content, each with tag and length as it came.
#[derive(Default)]
struct CmsParts {
    /// The type of the CMS.
    oid: Vec<u8>,
    /// What stands before EncryptedContentInfo.
    before: Vec<u8>,
    /// The members of EncryptedContentInfo but for the content.
    content_info: Vec<u8>,
}

impl CmsParts {
    /// The same CMS with this content, which is optional (RFC 5652 §6.1), and these parts behind EncryptedContentInfo;
    /// lengths are definite.
    fn cms(&self, content: Option<&[u8]>, after: &[u8]) -> Vec<u8> {
        let content_head = content.map(|octets| ber::head(TAG_CONTENT, octets.len()));
        let content_head = content_head.as_ref().map_or(&[][..], |head| &head[..]);
        let content = content.unwrap_or_default();
        let info_bytes = self.content_info.len() + content_head.len() + content.len();
        let body_bytes = self.before.len() + ber::HEAD_BYTES + info_bytes + after.len();
        let explicit_bytes = ber::HEAD_BYTES + body_bytes;
        let all_bytes = self.oid.len() + ber::HEAD_BYTES + explicit_bytes;
        [
            &ber::head(TAG_SEQUENCE, all_bytes)[..],
            &self.oid,
            &ber::head(TAG_CONTEXT_0, explicit_bytes),
            &ber::head(TAG_SEQUENCE, body_bytes),
            &self.before,
            &ber::head(TAG_SEQUENCE, info_bytes),
            &self.content_info,
            content_head,
            content,
            after,
        ]
        .concat()
    }
}

/// The header with the blank line that ends it.
fn read_header(mail: &mut impl BufRead) -> Result<Vec<u8>, OpenError> {
    let mut header = Vec::new();
    loop {
        let start = header.len();
        let left = (MAX_HEADER_BYTES + 1).saturating_sub(start);
        let mut line = mail.by_ref().take(left as u64);
        line.read_until(b'\n', &mut header)?;
        if header.len() > MAX_HEADER_BYTES {
            return Err(malformed("the header is larger than 256 KiB"));
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
