//! Opens a received Direct mail: decrypts it with a key of ours and checks the integrity of what was signed. Whom to
//! trust is not asked here, and nothing of the content is used before its signature held (SM-39, T-12).

use std::{
    io::{self, BufRead, Read},
    mem,
};

use openssl::{error::ErrorStack, nid::Nid, x509::X509};

use super::{
    SigningIdentity,
    ber::CmsKind,
    ffi::{CmsReader, Decryption},
    front::Front,
    policy::{self, KeyUse, Legacy},
    verify::{self, Leniency, SignerFault, VerifiedSigner},
};
use crate::formats::limits::Limits;

/// What is tolerated while a mail is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The weak algorithms that the receiving domain takes (SM-6).
    pub allow_legacy: Vec<Legacy>,
    /// Take a signature without signed attributes (SM-21). Default: refuse it.
    pub allow_no_signed_attrs: bool,
    /// How many parts a CMS may have (LIM-16).
    pub limits: Limits,
}

/// A mail that was decrypted, and that at least one signer signed as it is.
pub struct Opened {
    /// The header of the received mail with the blank line that ends it; nobody signed it.
    pub outer_header: Vec<u8>,
    /// The signed MIME entity: header, blank line, body, as the octets came (SM-53).
    pub entity: Vec<u8>,
    /// SHA-256 over the entity.
    pub sha256: [u8; 32],
    /// The signers whose signature holds. Whether one is bound to the sender and trusted is still to be judged.
    pub signers: Vec<VerifiedSigner>,
    /// Why the others were left out, for the audit.
    pub failed_signers: Vec<SignerFault>,
    /// All certificates that were sent along: material for paths.
    pub certificates: Vec<X509>,
    /// Which of our identities opened it, by its place in the list given.
    pub identity: usize,
    /// What had to be mended for the signature to hold (SM-54).
    pub leniency: Leniency,
    /// The weak algorithms that were used with leave (SM-6): each is a Warning and an audit entry.
    pub legacy: Vec<Legacy>,
    /// Those of them that the envelope used; each signer has its own beside it.
    pub legacy_of_envelope: Vec<Legacy>,
}

/// Why a mail could not be opened. For audit and logs: the network peer gets one answer for all of them, or an attacker
/// could learn keys and contents from the difference (SM-38, T-13).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Plain mail, or mail that was only signed (RCV-R1).
    #[error(
        "not an S/MIME encrypted mail: application/pkcs7-mime with EnvelopedData is accepted (RCV-2)"
    )]
    NotEncrypted,
    /// A CMS of another content type.
    #[error(
        "the CMS is of a content type that is not accepted; SignedData, EnvelopedData and AuthEnvelopedData are"
    )]
    ContentType,
    /// Not as CMS or MIME has it.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A bomb.
    #[error("more than {limit} {what} (LIM-16)")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are accepted.
        limit: usize,
    },
    /// A bomb of few and large parts.
    #[error("{what} of more than {limit} octets (LIM-16)")]
    TooLong {
        /// Which list.
        what: &'static str,
        /// How many octets are accepted.
        limit: usize,
    },
    /// No RecipientInfo names a certificate of ours (SM-37).
    #[error("no RecipientInfo names a certificate of ours (SM-37)")]
    NotForUs,
    /// An algorithm outside the policy.
    #[error("{0} is not accepted (smime.md section 2)")]
    Algorithm(&'static str),
    /// Wrong key, wrong padding, altered content: all alike.
    #[error("undecryptable (RCV-R2)")]
    Undecryptable,
    /// Encrypted, and not signed inside (RCV-R3).
    #[error("the content is not signed: multipart/signed or SignedData is needed (RCV-4)")]
    NotSigned,
    /// No signature holds (RCV-R5).
    #[error("no signature holds: {}", list(.0))]
    NoValidSignature(Vec<SignerFault>),
    /// OpenSSL could not read it.
    #[error("OpenSSL could not read the CMS")]
    OpenSsl(#[from] ErrorStack),
    /// Its octets could not be had: that says nothing about the mail.
    #[error("the mail could not be read")]
    Read(#[from] io::Error),
}

fn list(faults: &[SignerFault]) -> String {
    if faults.is_empty() {
        return "there is no signer".to_owned();
    }
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Opens `mail`, a whole received message with its outer header, with the first of `identities` that a RecipientInfo
/// names. Identities may be expired: their keys are kept for late mail (KEY-3).
pub fn open(
    mail: &[u8],
    identities: &[SigningIdentity],
    options: &OpenOptions,
) -> Result<Opened, OpenError> {
    open_from(mail, mail.len(), identities, options)
}

/// The same with a mail of about `mail_bytes` octets that is read in one pass.
///
/// Memory: what was signed, about three quarters of the mail; three times that for content under an authenticating
/// cipher, since libcrypto reads such a CMS whole (SM-63).
pub fn open_from(
    mail: impl Read,
    mail_bytes: usize,
    identities: &[SigningIdentity],
    options: &OpenOptions,
) -> Result<Opened, OpenError> {
    let mut front = Front::read(mail, &options.limits)?;
    let mut legacy = check_cipher(front.kind, &front.cipher, &options.allow_legacy)?;
    let (identity, used) = choose_identity(&front.envelope, identities, &options.allow_legacy)?;
    legacy.extend(used);
    let chosen = identities.get(identity).ok_or(OpenError::NotForUs)?;
    let outer_header = mem::take(&mut front.header);
    // Base64 is a third longer than what it says.
    let size_hint = mail_bytes / 4 * 3;
    let content = decrypt(front, chosen, size_hint, &options.limits)?;

    let signed = verify::verify(content, options)?;
    let legacy_of_envelope = legacy.clone();
    legacy.extend(
        signed
            .signers
            .iter()
            .flat_map(|signer| signer.legacy.iter().copied()),
    );
    Ok(Opened {
        outer_header,
        entity: signed.entity,
        sha256: signed.sha256,
        signers: signed.signers,
        failed_signers: signed.failed_signers,
        certificates: signed.certificates,
        identity,
        leniency: signed.leniency,
        legacy,
        legacy_of_envelope,
    })
}

/// EnvelopedData is decrypted as it comes; AuthEnvelopedData is read whole: its mac comes last, and libcrypto wants it
/// before the content.
fn decrypt(
    front: Front<impl BufRead>,
    identity: &SigningIdentity,
    size_hint: usize,
    limits: &Limits,
) -> Result<Vec<u8>, OpenError> {
    let (certificate, key) = (&identity.certificate, &identity.key);
    let content = if front.kind == CmsKind::AuthEnveloped {
        let cms = front.rest.whole(limits)?;
        cms.decryption(certificate, key, true, size_hint)
            .and_then(Decryption::finish)
    } else {
        let begun = front
            .envelope
            .decryption(certificate, key, false, size_hint);
        let mut decryption = begun.ok_or(OpenError::Undecryptable)?;
        front.rest.pour(limits, &mut |octets| {
            decryption.update(octets);
            Ok(())
        })?;
        decryption.finish()
    };
    content.ok_or(OpenError::Undecryptable)
}

/// The content cipher by its OID (SM-6): AES by default, 3DES by leave, nothing else ever.
fn check_cipher(
    kind: CmsKind,
    cipher: &[u8],
    allow_legacy: &[Legacy],
) -> Result<Vec<Legacy>, OpenError> {
    // 2.16.840.1.101.3.4.1, the arc of AES.
    const AES: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];
    // 1.2.840.113549.3.7.
    const TRIPLE_DES_CBC: [u8; 8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x03, 0x07];
    let aes = cipher.strip_prefix(&AES);
    match (kind, aes) {
        // aes128, 192, 256-CBC.
        (CmsKind::Enveloped, Some([2 | 22 | 42])) => Ok(Vec::new()),
        // aes128, 256-GCM.
        (CmsKind::AuthEnveloped, Some([6 | 46])) => Ok(Vec::new()),
        (CmsKind::Enveloped, None)
            if cipher == TRIPLE_DES_CBC && allow_legacy.contains(&Legacy::TripleDes) =>
        {
            Ok(vec![Legacy::TripleDes])
        }
        _ => Err(OpenError::Algorithm("the content cipher")),
    }
}

/// The first identity that a RecipientInfo names, and the weak algorithms that opening with it uses.
fn choose_identity(
    envelope: &CmsReader,
    identities: &[SigningIdentity],
    allow_legacy: &[Legacy],
) -> Result<(usize, Vec<Legacy>), OpenError> {
    let (index, identity, algorithm) = identities
        .iter()
        .enumerate()
        .find_map(|(index, identity)| {
            let algorithm = envelope.recipient_algorithm(&identity.certificate)?;
            Some((index, identity, algorithm))
        })
        .ok_or(OpenError::NotForUs)?;
    let mut legacy = Vec::new();
    policy::check_key(&*identity.key, KeyUse::Receive, allow_legacy)
        .map_err(|_| OpenError::Algorithm("the key that it is encrypted to"))?;
    if policy::check_key(&*identity.key, KeyUse::Receive, &[]).is_err() {
        legacy.push(Legacy::Rsa1024);
    }
    match algorithm {
        Nid::RSAENCRYPTION | Nid::RSAESOAEP => {}
        algorithm if policy::is_strong_agreement(algorithm) => {}
        algorithm
            if policy::is_sha1_agreement(algorithm) && allow_legacy.contains(&Legacy::Sha1Kdf) =>
        {
            legacy.push(Legacy::Sha1Kdf);
        }
        _ => {
            return Err(OpenError::Algorithm(
                "the algorithm that wraps the content key",
            ));
        }
    }
    Ok((index, legacy))
}
