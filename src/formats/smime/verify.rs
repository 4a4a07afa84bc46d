//! Checks the integrity of signed content, detached or opaque, signer by signer (smime.md section 3).

use jiff::Timestamp;
use openssl::{
    error::ErrorStack,
    nid::Nid,
    sha::sha256,
    x509::{X509, X509Ref},
};

use super::{
    ber::{self, CmsKind},
    entity::{self, Entity},
    ffi::{CmsReader, ContentDigests, ReceivedSigner},
    open::{OpenError, OpenOptions},
    policy::{self, KeyUse, Legacy},
};

/// What had to be mended so that a signature holds (SM-54). Anything but `None` is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leniency {
    /// Nothing: the octets as they came.
    #[default]
    None,
    /// Bare line feeds were read as CRLF.
    LineEnds,
    /// One line end more at the end.
    LineEndAdded,
    /// One line end fewer at the end.
    LineEndRemoved,
}

/// A signer whose signature holds.
#[derive(Clone)]
pub struct VerifiedSigner {
    /// The certificate that it names and whose key verifies it.
    pub certificate: X509,
    /// The signer's own time: information only (SM-18).
    pub signing_time: Option<Timestamp>,
    /// The weak algorithms that were used with leave.
    pub legacy: Vec<Legacy>,
}

/// Why one signer was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerFault {
    /// Its certificate was not sent along.
    #[error("the signer's certificate is not in the message (SM-16)")]
    NoCertificate,
    /// An algorithm outside the policy, or a digest and a signature that do not fit.
    #[error("the digest or signature algorithm is not accepted (SM-23, smime.md section 2)")]
    Algorithm,
    /// The key is too weak or of a wrong kind.
    #[error("the signer's key is not accepted (SM-4)")]
    Key,
    /// No signed attributes.
    #[error("the signature has no signed attributes (SM-21)")]
    NoAttributes,
    /// contentType or messageDigest is missing, doubled or of another value.
    #[error("contentType or messageDigest is missing, doubled or wrong (SM-17, SM-20)")]
    Attributes,
    /// The signature or the digest is wrong: forged or altered.
    #[error("the signature does not fit the content (RCV-R5)")]
    Mismatch,
}

/// Signed content whose signature holds.
pub(super) struct Signed {
    pub(super) entity: Vec<u8>,
    pub(super) sha256: [u8; 32],
    pub(super) signers: Vec<VerifiedSigner>,
    pub(super) failed_signers: Vec<SignerFault>,
    pub(super) certificates: Vec<X509>,
    pub(super) leniency: Leniency,
}

/// Verifies `content`, a whole MIME entity: multipart/signed, or pkcs7-mime with a SignedData (SM-10, SM-11).
pub(super) fn verify(content: Vec<u8>, options: &OpenOptions) -> Result<Signed, OpenError> {
    let entity = Entity::read(&content)?;
    if entity.kind == "multipart/signed" {
        verify_detached(content, &entity, options)
    } else if entity.is_pkcs7_mime() {
        verify_opaque(&content, &entity, options)
    } else {
        Err(OpenError::NotSigned)
    }
}

fn verify_detached(
    mut content: Vec<u8>,
    outer: &Entity,
    options: &OpenOptions,
) -> Result<Signed, OpenError> {
    let boundary = outer.boundary.as_deref().unwrap_or_default();
    let body = outer.body(&content);
    let (first, second) = entity::two_parts(body, boundary)?;
    let signature_part = body.get(second).unwrap_or_default();
    let part = Entity::read(signature_part)?;
    if !part.is_pkcs7_signature() {
        return Err(OpenError::NotSigned);
    }
    let cms = read_signed_data(&part.decoded_body(signature_part)?, options)?;
    let signed = body.get(first.clone()).unwrap_or_default();

    let mut judged = judge(&cms, Some(signed), options)?.0;
    let mut mended = None;
    if judged.is_mismatch() {
        for leniency in [
            Leniency::LineEnds,
            Leniency::LineEndAdded,
            Leniency::LineEndRemoved,
        ] {
            let Some(octets) = mend(signed, leniency) else {
                continue;
            };
            let again = judge(&cms, Some(&octets), options)?.0;
            if !again.signers.is_empty() {
                judged = again;
                mended = Some((octets, leniency));
                break;
            }
        }
    }
    let (entity, leniency) = mended.unwrap_or_else(|| {
        // In place: the content is as large as the message.
        content.truncate(outer.header_bytes + first.end);
        content.drain(..outer.header_bytes + first.start);
        (content, Leniency::None)
    });
    judged.into_signed(entity, &cms, leniency)
}

fn verify_opaque(
    content: &[u8],
    outer: &Entity,
    options: &OpenOptions,
) -> Result<Signed, OpenError> {
    let cms = read_signed_data(&outer.decoded_body(content)?, options)?;
    if !cms.has_content() {
        return Err(OpenError::NotSigned);
    }
    let (judged, entity) = judge(&cms, None, options)?;
    judged.into_signed(entity, &cms, Leniency::None)
}

fn read_signed_data(ber: &[u8], options: &OpenOptions) -> Result<CmsReader, OpenError> {
    if ber::survey(ber, &options.limits)?.kind != CmsKind::Signed {
        return Err(OpenError::NotSigned);
    }
    let cms = CmsReader::from_ber(ber)?;
    if cms.is_over_data() {
        Ok(cms)
    } else {
        Err(OpenError::Malformed(
            "the signed content is not id-data (SM-14)",
        ))
    }
}

/// The octets with one deviation of the field mended; `None` when there is nothing to mend.
fn mend(octets: &[u8], leniency: Leniency) -> Option<Vec<u8>> {
    match leniency {
        Leniency::None => None,
        Leniency::LineEnds => {
            let mut mended = Vec::with_capacity(octets.len() + octets.len() / 32);
            let mut last = 0;
            for octet in octets {
                if *octet == b'\n' && last != b'\r' {
                    mended.push(b'\r');
                }
                mended.push(*octet);
                last = *octet;
            }
            (mended.len() != octets.len()).then_some(mended)
        }
        Leniency::LineEndAdded => Some([octets, b"\r\n"].concat()),
        Leniency::LineEndRemoved => octets.strip_suffix(b"\r\n").map(<[u8]>::to_vec),
    }
}

/// What became of the signers over one form of the content.
#[derive(Default)]
struct Judged {
    signers: Vec<VerifiedSigner>,
    /// SHA-256 of the content, if one of them signed that.
    sha256: Option<[u8; 32]>,
    failed_signers: Vec<SignerFault>,
}

impl Judged {
    /// Whether another form of the content could still hold.
    fn is_mismatch(&self) -> bool {
        self.signers.is_empty() && self.failed_signers.contains(&SignerFault::Mismatch)
    }

    fn into_signed(
        self,
        entity: Vec<u8>,
        cms: &CmsReader,
        leniency: Leniency,
    ) -> Result<Signed, OpenError> {
        // One good signer is enough (SM-22); none at all means unsigned.
        if self.signers.is_empty() {
            return Err(OpenError::NoValidSignature(self.failed_signers));
        }
        Ok(Signed {
            sha256: self.sha256.unwrap_or_else(|| sha256(&entity)),
            entity,
            signers: self.signers,
            failed_signers: self.failed_signers,
            certificates: cms.certificates(),
            leniency,
        })
    }
}

/// Judges every signer over `detached`, or over the content inside, which is given back then.
fn judge(
    cms: &CmsReader,
    detached: Option<&[u8]>,
    options: &OpenOptions,
) -> Result<(Judged, Vec<u8>), ErrorStack> {
    let certificates = cms.certificates();
    let (digests, content) = cms.digest(detached)?;
    let mut judged = Judged::default();
    for signer in cms.signers() {
        match judge_signer(&signer, &certificates, &digests, options) {
            Ok(verified) => {
                judged.signers.push(verified);
                judged.sha256 = judged.sha256.or(signed_sha256(&signer));
            }
            Err(fault) => judged.failed_signers.push(fault),
        }
    }
    Ok((judged, content))
}

/// The SHA-256 of the content that a signer whose signature holds has signed.
fn signed_sha256(signer: &ReceivedSigner<'_>) -> Option<[u8; 32]> {
    let (digest, _) = signer.algorithms();
    let signed = signer.message_digest().filter(|_| digest == Nid::SHA256)?;
    signed.try_into().ok()
}

fn judge_signer(
    signer: &ReceivedSigner<'_>,
    certificates: &[X509],
    digests: &ContentDigests<'_>,
    options: &OpenOptions,
) -> Result<VerifiedSigner, SignerFault> {
    let (digest, signature) = signer.algorithms();
    let legacy = policy::check_signature(digest, signature, &options.allow_legacy)
        .ok_or(SignerFault::Algorithm)?;
    if signer.has_attributes() {
        if !signer.has_required_attributes() {
            return Err(SignerFault::Attributes);
        }
    } else if !options.allow_no_signed_attrs {
        return Err(SignerFault::NoAttributes);
    }
    // Several certificates may share a key identifier: each is tried (SM-15).
    let mut fault = SignerFault::NoCertificate;
    for certificate in certificates.iter().filter(|found| signer.names(found)) {
        match verify_with(signer, certificate, digests, &options.allow_legacy) {
            Ok(more) => {
                return Ok(VerifiedSigner {
                    certificate: certificate.clone(),
                    signing_time: signer.signing_time(),
                    legacy: legacy.into_iter().chain(more).collect(),
                });
            }
            Err(found) => fault = found,
        }
    }
    Err(fault)
}

/// The key first: a hostile modulus must cost nothing (T-13f).
fn verify_with(
    signer: &ReceivedSigner<'_>,
    certificate: &X509Ref,
    digests: &ContentDigests<'_>,
    allow_legacy: &[Legacy],
) -> Result<Option<Legacy>, SignerFault> {
    let key = certificate.public_key().map_err(|_| SignerFault::Key)?;
    policy::check_key(&key, KeyUse::Receive, allow_legacy).map_err(|_| SignerFault::Key)?;
    if !signer.verify(certificate, digests) {
        return Err(SignerFault::Mismatch);
    }
    let is_weak = policy::check_key(&key, KeyUse::Receive, &[]).is_err();
    let is_rsa = key.rsa().is_ok();
    Ok((is_weak && is_rsa).then_some(Legacy::Rsa1024))
}
