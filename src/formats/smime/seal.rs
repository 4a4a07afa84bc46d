//! Signs and encrypts one MIME entity in a single streaming pass: nothing of it is held whole (SM-41, SM-63).

use std::{
    collections::HashSet,
    fmt,
    io::{self, BufWriter, Write},
};

use jiff::Timestamp;
use openssl::{
    error::ErrorStack,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{X509, X509Ref},
};

use super::{
    ffi::{BLOCK_BYTES, EnvelopeError, EnvelopeWriter, RecipientOptions, SignatureWriter, Signer},
    policy::{self, ContentCipher, Digest, KeyFault, KeyUse},
};
use crate::formats::{
    ids::MessageId,
    limits::Limits,
    mime::base64_lines::{self, Base64Lines},
};

/// Longest boundary (RFC 2046 §5.1.1), in octets.
const MAX_BOUNDARY_BYTES: usize = 70;
/// What signature, certificates and envelope add to a message at the most usual, in octets (SM-60).
const OVERHEAD_BYTES: u64 = 10 * 1024;

/// A certificate of ours with its private key, and the intermediates that lead from it towards an anchor.
#[derive(Clone)]
pub struct SigningIdentity {
    /// The certificate.
    pub certificate: X509,
    /// Its private key.
    pub key: PKey<Private>,
    /// The certificates between it and the anchor, without the anchor (SM-16).
    pub intermediates: Vec<X509>,
}

impl fmt::Debug for SigningIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningIdentity")
            .field("intermediates", &self.intermediates.len())
            .finish_non_exhaustive()
    }
}

/// How a message is sealed. The default is what every Direct peer reads (SM-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealOptions {
    /// Digest of the signature.
    pub digest: Digest,
    /// Cipher of the content.
    pub cipher: ContentCipher,
    /// Wrap the content key by RSAES-OAEP with SHA-256, for peers that are known to take it. Default: PKCS#1 v1.5.
    pub oaep: bool,
    /// Name recipients' certificates by subjectKeyIdentifier in place of issuer and serial number (SM-32).
    pub recipient_id_by_ski: bool,
    /// Most RecipientInfos of one envelope (LIM-16).
    pub max_recipient_infos: usize,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self {
            digest: Digest::default(),
            cipher: ContentCipher::default(),
            oaep: false,
            recipient_id_by_ski: false,
            max_recipient_infos: Limits::default().max_recipient_infos,
        }
    }
}

/// Why nothing usable was sealed. What was written until then must be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Nobody signs.
    #[error("no key signs the message: at least one signing identity is needed (SND-4)")]
    NoSigner,
    /// Nobody could open it.
    #[error("no certificate to encrypt to: at least one is needed (SND-5)")]
    NoRecipient,
    /// More recipients than one envelope may have: make another leg.
    #[error("{count} recipients' certificates; one envelope takes {limit} (LIM-16)")]
    TooManyRecipients {
        /// How many, without doubles.
        count: usize,
        /// What would be accepted.
        limit: usize,
    },
    /// The key of recipient `index` is too weak, or of a wrong kind.
    #[error(
        "the certificate of recipient {index} is not encrypted to: {fault} (smime.md section 2)"
    )]
    RecipientKey {
        /// Its place in the list given.
        index: usize,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// The key of signer `index` is too weak, or of a wrong kind.
    #[error("the key of signer {index} does not sign: {fault} (smime.md section 2)")]
    SignerKey {
        /// Its place in the list given.
        index: usize,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// The boundary cannot stand in a header.
    #[error("a boundary has 1 to 70 letters, digits or any of '()+_,-./:=? (SM-56)")]
    Boundary,
    /// The entity has a bare line feed or an octet outside US-ASCII: its signature would break on the way.
    #[error("the entity to sign must be 7 bit with CRLF line ends (SM-51, SM-52)")]
    NotCanonical,
    /// The entity could not be made.
    #[error("the entity to sign could not be read")]
    Entity(#[source] io::Error),
    /// The sealed octets could not be written.
    #[error("the sealed message could not be written")]
    Output(#[source] io::Error),
    /// OpenSSL failed.
    #[error("OpenSSL could not seal the message")]
    OpenSsl(#[from] ErrorStack),
}

/// Writes the CMS part of a Direct mail to `out`: an envelope for `recipients` over a multipart/signed by `signers`
/// over what `entity` writes, in base64 lines with CRLF. The header before it is [`super::seal_header`]'s.
///
/// `entity` must write a whole MIME entity: header, blank line, body; 7 bit, CRLF (SM-40, SM-52). `boundary` must not
/// occur in it. Doubles among `recipients` share one RecipientInfo (MR-1). Memory does not grow with the entity.
pub fn seal(
    out: &mut dyn Write,
    signers: &[SigningIdentity],
    recipients: &[X509],
    options: &SealOptions,
    now: Timestamp,
    boundary: &str,
    entity: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<(), SealError> {
    check_boundary(boundary)?;
    let recipients = distinct_recipients(recipients, options.max_recipient_infos)?;
    let signature = begin_signature(signers, options, now)?;
    let mut base64 = Base64Lines::new(BufWriter::with_capacity(BLOCK_BYTES, out));
    let wrap = RecipientOptions {
        oaep: options.oaep,
        by_key_id: options.recipient_id_by_ski,
    };
    let envelope = EnvelopeWriter::new(&mut base64, &recipients, options.cipher.cipher(), &wrap)?;
    write_signed(envelope, signature, options.digest, boundary, entity)?;
    let mut out = base64.finish().map_err(SealError::Output)?;
    out.flush().map_err(SealError::Output)
}

/// The boundary of the multipart/signed of the message with this id. It cannot occur in what it bounds: every line of
/// that is shorter, or base64, which has no `=` before its end.
pub fn signature_boundary(message_id: &MessageId) -> String {
    let random = message_id.as_str().split('@').next().unwrap_or_default();
    format!("=_signed_{random}")
}

/// About how many octets [`seal`] writes for an entity of `entity_bytes`: for limits that are checked before (SM-60).
pub fn sealed_len_estimate(entity_bytes: u64, recipients: usize) -> u64 {
    const RECIPIENT_INFO_BYTES: u64 = 600;
    let envelope = RECIPIENT_INFO_BYTES.saturating_mul(recipients as u64);
    let cms = entity_bytes
        .saturating_add(envelope)
        .saturating_add(OVERHEAD_BYTES);
    // Each 4 KiB of the content carry the head of an octet string.
    base64_lines::encoded_len(cms.saturating_add(cms / 1024))
}

fn check_boundary(boundary: &str) -> Result<(), SealError> {
    // RFC 2046 §5.1.1 `bcharsnospace`.
    let is_boundary_char = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&b);
    let is_well_formed = (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len())
        && boundary.bytes().all(is_boundary_char);
    is_well_formed.then_some(()).ok_or(SealError::Boundary)
}

fn distinct_recipients(recipients: &[X509], limit: usize) -> Result<Vec<&X509Ref>, SealError> {
    let mut seen = HashSet::new();
    let mut distinct: Vec<&X509Ref> = Vec::new();
    for (index, recipient) in recipients.iter().enumerate() {
        policy::check_key(&*recipient.public_key()?, KeyUse::Make, &[])
            .map_err(|fault| SealError::RecipientKey { index, fault })?;
        if seen.insert(recipient.to_der()?) {
            distinct.push(recipient);
        }
    }
    let count = distinct.len();
    if count == 0 {
        Err(SealError::NoRecipient)
    } else if count > limit {
        Err(SealError::TooManyRecipients { count, limit })
    } else {
        Ok(distinct)
    }
}

fn begin_signature(
    identities: &[SigningIdentity],
    options: &SealOptions,
    now: Timestamp,
) -> Result<SignatureWriter, SealError> {
    if identities.is_empty() {
        return Err(SealError::NoSigner);
    }
    let mut carried = HashSet::new();
    let mut signers = Vec::new();
    for (index, identity) in identities.iter().enumerate() {
        policy::check_key(&*identity.key, KeyUse::Make, &[])
            .map_err(|fault| SealError::SignerKey { index, fault })?;
        if carried.insert(identity.certificate.to_der()?) {
            signers.push(Signer {
                certificate: &identity.certificate,
                key: &identity.key,
            });
        }
    }
    // The signers' own certificates go along by themselves; OpenSSL refuses doubles.
    let mut intermediates: Vec<&X509Ref> = Vec::new();
    for certificate in identities
        .iter()
        .flat_map(|identity| &identity.intermediates)
    {
        if carried.insert(certificate.to_der()?) {
            intermediates.push(certificate);
        }
    }
    Ok(SignatureWriter::new(
        &signers,
        &intermediates,
        options.digest.message_digest(),
        capabilities(options.cipher),
        now,
    )?)
}

/// What we say that we read (SM-19): CBC always, GCM where it is in use.
fn capabilities(cipher: ContentCipher) -> &'static [Nid] {
    const WITH_GCM: [Nid; 4] = [
        Nid::AES_256_CBC,
        Nid::AES_128_CBC,
        Nid::AES_256_GCM,
        Nid::AES_128_GCM,
    ];
    if cipher.is_authenticated() {
        &WITH_GCM
    } else {
        &WITH_GCM[..2]
    }
}

/// Writes the multipart/signed into the envelope (SM-10, SM-50).
fn write_signed(
    envelope: EnvelopeWriter<'_>,
    signature: SignatureWriter,
    digest: Digest,
    boundary: &str,
    entity: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<(), SealError> {
    let mut envelope = envelope;
    let head = format!(
        "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n \
         micalg={}; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n",
        digest.micalg()
    );
    envelope.update(head.as_bytes())?;

    let mut tee = BufWriter::with_capacity(
        BLOCK_BYTES,
        Tee {
            signature,
            envelope: &mut envelope,
            last: 0,
            fault: None,
        },
    );
    let written = entity(&mut tee).and_then(|()| tee.flush());
    let (tee, _) = tee.into_parts();
    if let Some(fault) = tee.fault {
        return Err(fault);
    }
    written.map_err(SealError::Entity)?;
    let signature = tee.signature.finish()?;

    let mut tail = format!(
        "\r\n--{boundary}\r\n\
         Content-Type: application/pkcs7-signature; name=smime.p7s\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=smime.p7s\r\n\r\n"
    )
    .into_bytes();
    let mut base64 = Base64Lines::new(&mut tail);
    base64.write_all(&signature).map_err(SealError::Output)?;
    base64.finish().map_err(SealError::Output)?;
    tail.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    envelope.update(&tail)?;
    Ok(envelope.finish()?)
}

impl From<EnvelopeError> for SealError {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Library(error) => Self::OpenSsl(error),
            EnvelopeError::Sink(error) => Self::Output(error),
        }
    }
}

/// Passes the entity to the signature and to the envelope.
struct Tee<'a, 'w> {
    signature: SignatureWriter,
    envelope: &'a mut EnvelopeWriter<'w>,
    /// The last octet of the block before.
    last: u8,
    /// What went wrong on this side of `entity`, which sees only an [`io::Error`].
    fault: Option<SealError>,
}

impl Tee<'_, '_> {
    fn pass(&mut self, octets: &[u8]) -> Result<(), SealError> {
        if !is_canonical(self.last, octets) {
            return Err(SealError::NotCanonical);
        }
        self.last = octets.last().copied().unwrap_or(self.last);
        self.signature.update(octets)?;
        Ok(self.envelope.update(octets)?)
    }
}

impl Write for Tee<'_, '_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let failed = || io::Error::other("the message could not be sealed");
        if self.fault.is_some() {
            return Err(failed());
        }
        match self.pass(octets) {
            Ok(()) => Ok(octets.len()),
            Err(fault) => {
                self.fault = Some(fault);
                Err(failed())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether every octet is 7 bit and every line feed follows a carriage return; `last` is the octet before.
fn is_canonical(last: u8, octets: &[u8]) -> bool {
    let Some(first) = octets.first() else {
        return true;
    };
    let bare = |before: u8, at: u8| u8::from(at == b'\n') & u8::from(before != b'\r');
    // Without branches, so that the compiler may compare many octets at once.
    let pairs = octets.iter().zip(octets.iter().skip(1));
    let bare_inside = pairs.fold(0, |any, (before, at)| any | bare(*before, *at));
    octets.is_ascii() && (bare(last, *first) | bare_inside) == 0
}
