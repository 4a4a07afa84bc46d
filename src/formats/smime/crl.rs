//! Certificate revocation lists (RFC 5280 §5): read and indexed once, asked often. Whether a list may speak about a
//! certificate at all is [`crate::bridge::trust::Revocation`]'s question.

use std::fmt;

use jiff::Timestamp;
use openssl::{
    asn1::{Asn1IntegerRef, Asn1Time},
    hash::{MessageDigest, hash},
    md::{Md, MdRef},
    pkey::{Id, PKeyRef, Public},
    pkey_ctx::PkeyCtx,
    x509::{X509Name, X509NameRef},
};

use super::ber::{Children, Element, TAG_CONTEXT_0, TAG_OID, TAG_SEQUENCE, element};

/// Most entries of one list.
pub const MAX_CRL_ENTRIES: usize = 1_000_000;
/// Most extensions of a list, or of one entry.
const MAX_EXTENSIONS: usize = 32;
/// Octets of a serial number: RFC 5280 §4.1.2.2 allows 20.
const SERIAL_OCTETS: usize = 32;

const TAG_BOOLEAN: u8 = 0x01;
pub(super) const TAG_INTEGER: u8 = 0x02;
pub(super) const TAG_BIT_STRING: u8 = 0x03;
pub(super) const TAG_OCTET_STRING: u8 = 0x04;
const TAG_ENUMERATED: u8 = 0x0A;
const TAG_UTC_TIME: u8 = 0x17;
const TAG_GENERALIZED_TIME: u8 = 0x18;

/// The last octet of id-ce, 2.5.29: `55 1D`.
const ID_CE: [u8; 2] = [0x55, 0x1D];
const CRL_NUMBER: u8 = 20;
const REASON_CODE: u8 = 21;
const INVALIDITY_DATE: u8 = 24;
const DELTA_CRL_INDICATOR: u8 = 27;
const ISSUING_DISTRIBUTION_POINT: u8 = 28;
const AUTHORITY_KEY_IDENTIFIER: u8 = 35;
/// reasonCode removeFromCRL: the certificate is not revoked (RFC 5280 §6.3.3 k).
const REMOVE_FROM_CRL: u8 = 8;

/// Why a list cannot be used. The texts say what would be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlFault {
    /// Not a list, or a broken one.
    #[error(
        "is not a readable CRL: {0}; an X.509 CRL of version 2 in DER or PEM form is accepted (REV-2)"
    )]
    Malformed(&'static str),
    /// Too many entries.
    #[error("lists more than {MAX_CRL_ENTRIES} certificates (REV-2)")]
    TooMany,
    /// It says changes to another list only.
    #[error("is a delta CRL; complete ones are used (REV-2)")]
    Delta,
    /// It speaks of other issuers' certificates.
    #[error("is an indirect CRL; those of the certificates' own issuer are used (REV-2)")]
    Indirect,
    /// It speaks of a part of the issuer's certificates that cannot be told.
    #[error(
        "covers only a part of its issuer's certificates; complete CRLs, or such for all CAs or all users, are used (REV-2)"
    )]
    Partition,
    /// A critical extension that we do not know.
    #[error("has a critical extension that is not known; such a CRL must not be used (REV-2)")]
    UnknownExtension,
    /// Signed in a way that is not accepted.
    #[error(
        "is signed with an algorithm that is not accepted; RSA or ECDSA with SHA-256, SHA-384 or SHA-512 is (CERT-10)"
    )]
    Algorithm,
}

impl CrlFault {
    /// Whether it is a sound list of a kind that is not used, such as a CA may publish beside its complete one.
    pub fn is_of_other_kind(self) -> bool {
        matches!(
            self,
            Self::Delta | Self::Indirect | Self::Partition | Self::UnknownExtension
        )
    }
}

/// Whose certificates a list covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrlScope {
    /// All of its issuer.
    #[default]
    All,
    /// Only end entities'.
    Users,
    /// Only CAs'.
    Authorities,
}

impl CrlScope {
    /// Whether a certificate is covered that is a CA's, or is not.
    pub fn covers(self, is_ca: bool) -> bool {
        match self {
            Self::All => true,
            Self::Users => !is_ca,
            Self::Authorities => is_ca,
        }
    }
}

/// A serial number, filled with zeros from the left.
pub(super) type Serial = [u8; SERIAL_OCTETS];

/// A complete list, indexed by serial number.
pub struct Crl {
    issuer: X509Name,
    this_update: Timestamp,
    next_update: Timestamp,
    scope: CrlScope,
    number: Option<Serial>,
    /// Those that are revoked, sorted: one look-up takes some twenty steps among a million.
    revoked: Vec<Serial>,
    /// Digest of what was signed: the list itself need not be kept for it.
    digest: Vec<u8>,
    algorithm: Algorithm,
    signature: Vec<u8>,
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crl")
            .field("this_update", &self.this_update)
            .field("next_update", &self.next_update)
            .field("scope", &self.scope)
            .field("entries", &self.revoked.len())
            .finish_non_exhaustive()
    }
}

impl Crl {
    /// Reads one list in DER form: `CertificateList`, RFC 5280 §5.1. Octets after it are refused. Nothing is verified.
    pub fn from_der(der: &[u8]) -> Result<Self, CrlFault> {
        let (list, rest) = read(element(der, 0))?;
        if !rest.is_empty() {
            return Err(CrlFault::Malformed("octets follow it"));
        }
        let mut parts = Children::of(of_kind(Some(list), TAG_SEQUENCE)?);
        let signed = parts.rest();
        let body = of_kind(read(parts.next())?, TAG_SEQUENCE)?;
        let signed_length = signed.len() - parts.rest().len();
        let signed = signed.get(..signed_length).unwrap_or_default();
        let algorithm = of_kind(read(parts.next())?, TAG_SEQUENCE)?;
        let signature = of_kind(read(parts.next())?, TAG_BIT_STRING)?;
        if read(parts.next())?.is_some() {
            return Err(CrlFault::Malformed("it has a fourth part"));
        }
        let Some((0, signature)) = signature
            .content
            .split_first()
            .map(|(unused, of)| (*unused, of))
        else {
            return Err(CrlFault::Malformed("its signature is no whole octets"));
        };
        let body = Body::read(body)?;
        // RFC 5280 §5.1.1.2: the one outside must be the one that is signed.
        if body.algorithm.content != algorithm.content {
            return Err(CrlFault::Malformed("it names two signature algorithms"));
        }
        let algorithm = Algorithm::read(algorithm)?;
        let digest = hash(algorithm.digest(), signed).map_err(|_| CrlFault::Algorithm)?;
        Ok(Self {
            issuer: body.issuer,
            this_update: body.this_update,
            next_update: body.next_update,
            scope: body.extensions.scope,
            number: body.extensions.number,
            revoked: body.revoked,
            digest: digest.to_vec(),
            algorithm,
            signature: signature.to_vec(),
        })
    }

    /// Who says that it is the issuer.
    pub fn issuer(&self) -> &X509NameRef {
        &self.issuer
    }

    /// When it was made.
    pub fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// When the next one is promised: from then on this one is stale.
    pub fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// Whose certificates it covers.
    pub fn scope(&self) -> CrlScope {
        self.scope
    }

    /// Its CRL number, if it has one, in octets of one length: the larger is the later.
    pub fn number(&self) -> Option<&[u8]> {
        self.number.as_ref().map(<[u8; SERIAL_OCTETS]>::as_slice)
    }

    /// Whether it was issued before `other`, a list of the same issuer and scope: by its time, or by its number where both
    /// have one, which never goes down (RFC 5280 §5.2.3).
    pub fn is_older_than(&self, other: &Self) -> bool {
        let is_numbered_lower = match (&self.number, &other.number) {
            (Some(number), Some(other)) => number < other,
            _ => false,
        };
        self.this_update < other.this_update || is_numbered_lower
    }

    /// How many certificates are revoked.
    pub fn revoked(&self) -> usize {
        self.revoked.len()
    }

    /// Whether the list says that the certificate of this number is revoked: on hold counts as revoked.
    pub fn lists(&self, serial_number: &Asn1IntegerRef) -> bool {
        let octets = serial_number.to_bn().map(|number| number.to_vec());
        let serial = octets.ok().and_then(|octets| serial(&octets));
        // A number that no list can hold is that of nobody: told as revoked, since its status can never be known.
        serial.is_none_or(|serial| self.revoked.binary_search(&serial).is_ok())
    }

    /// Whether `key` made the signature.
    pub fn is_signed_by(&self, key: &PKeyRef<Public>) -> bool {
        if key.id() != self.algorithm.key {
            return false;
        }
        let verify = || {
            let mut context = PkeyCtx::new(key)?;
            context.verify_init()?;
            context.set_signature_md(self.algorithm.md())?;
            context.verify(&self.digest, &self.signature)
        };
        verify().unwrap_or(false)
    }
}

/// What is signed: `TBSCertList`.
struct Body<'a> {
    algorithm: Element<'a>,
    issuer: X509Name,
    this_update: Timestamp,
    next_update: Timestamp,
    extensions: ListExtensions,
    revoked: Vec<Serial>,
}

impl<'a> Body<'a> {
    fn read(body: Element<'a>) -> Result<Self, CrlFault> {
        let mut parts = Children::of(body);
        let version = of_kind(read(parts.next())?, TAG_INTEGER)?;
        if version.content != [1] {
            return Err(CrlFault::Malformed("it is not of version 2"));
        }
        let algorithm = of_kind(read(parts.next())?, TAG_SEQUENCE)?;
        let before = parts.rest();
        of_kind(read(parts.next())?, TAG_SEQUENCE)?;
        let length = before.len() - parts.rest().len();
        let issuer = X509Name::from_der(before.get(..length).unwrap_or_default())
            .map_err(|_| CrlFault::Malformed("its issuer is no name"))?;
        let this_update = time(read(parts.next())?)?;
        // RFC 5280 §5.1.2.5: nextUpdate is always there.
        let next_update = time(read(parts.next())?)?;
        let mut next = read(parts.next())?;
        let mut revoked = Vec::new();
        if let Some(list) = next.filter(|part| part.tag == TAG_SEQUENCE) {
            revoked = entries(list)?;
            next = read(parts.next())?;
        }
        let extensions = match next {
            None => ListExtensions::default(),
            Some(wrapper) => ListExtensions::read(of_kind(Some(wrapper), TAG_CONTEXT_0)?)?,
        };
        if read(parts.next())?.is_some() {
            return Err(CrlFault::Malformed("something follows its extensions"));
        }
        revoked.sort_unstable();
        Ok(Self {
            algorithm,
            issuer,
            this_update,
            next_update,
            extensions,
            revoked,
        })
    }
}

fn entries(list: Element<'_>) -> Result<Vec<Serial>, CrlFault> {
    // The least that an entry takes: no more room is made than there can be entries.
    const SMALLEST_ENTRY: usize = 20;
    let mut revoked =
        Vec::with_capacity((list.content.len() / SMALLEST_ENTRY).min(MAX_CRL_ENTRIES));
    let mut entries = Children::of(list);
    let mut count = 0;
    while let Some(entry) = read(entries.next())? {
        count += 1;
        if count > MAX_CRL_ENTRIES {
            return Err(CrlFault::TooMany);
        }
        let mut parts = Children::of(of_kind(Some(entry), TAG_SEQUENCE)?);
        let number = of_kind(read(parts.next())?, TAG_INTEGER)?;
        // The date tells nothing that counts: who is listed is revoked.
        read(parts.next())?.ok_or(CrlFault::Malformed("an entry has no date"))?;
        let is_removed = match read(parts.next())? {
            Some(extensions) => is_removed(of_kind(Some(extensions), TAG_SEQUENCE)?)?,
            None => false,
        };
        if !is_removed {
            let serial = serial(&magnitude(number.content));
            revoked.push(serial.ok_or(CrlFault::Malformed("a serial number is too long"))?);
        }
    }
    Ok(revoked)
}

/// Whether an entry's reason is removeFromCRL.
fn is_removed(extensions: Element<'_>) -> Result<bool, CrlFault> {
    let mut is_removed = false;
    for extension in all_extensions(extensions)? {
        match extension.arc {
            Some(REASON_CODE) => {
                let (reason, _) = read(element(extension.value, 0))?;
                let reason = of_kind(Some(reason), TAG_ENUMERATED)?;
                is_removed = reason.content == [REMOVE_FROM_CRL];
            }
            Some(INVALIDITY_DATE) => {}
            // certificateIssuer among them, which only an indirect CRL has.
            _ if extension.is_critical => return Err(CrlFault::UnknownExtension),
            _ => {}
        }
    }
    Ok(is_removed)
}

/// What the extensions of a list say.
#[derive(Default)]
struct ListExtensions {
    scope: CrlScope,
    number: Option<Serial>,
}

impl ListExtensions {
    fn read(wrapper: Element<'_>) -> Result<Self, CrlFault> {
        let list = of_kind(read(Children::of(wrapper).next())?, TAG_SEQUENCE)?;
        let mut said = Self::default();
        for extension in all_extensions(list)? {
            match extension.arc {
                Some(DELTA_CRL_INDICATOR) => return Err(CrlFault::Delta),
                Some(ISSUING_DISTRIBUTION_POINT) => {
                    said.scope = distribution_point(extension.value)?;
                }
                Some(CRL_NUMBER) => said.number = Some(number(extension.value)?),
                Some(AUTHORITY_KEY_IDENTIFIER) => {}
                _ if extension.is_critical => return Err(CrlFault::UnknownExtension),
                _ => {}
            }
        }
        Ok(said)
    }
}

/// CRLNumber, RFC 5280 §5.2.3.
fn number(value: &[u8]) -> Result<Serial, CrlFault> {
    let (number, _) = read(element(value, 0))?;
    let number = of_kind(Some(number), TAG_INTEGER)?;
    serial(number.content).ok_or(CrlFault::Malformed("its CRL number is too long"))
}

/// IssuingDistributionPoint, RFC 5280 §5.2.5.
fn distribution_point(value: &[u8]) -> Result<CrlScope, CrlFault> {
    let (point, _) = read(element(value, 0))?;
    let mut parts = Children::of(of_kind(Some(point), TAG_SEQUENCE)?);
    let mut scope = CrlScope::All;
    while let Some(part) = read(parts.next())? {
        // A FALSE is the default, and says nothing.
        let is_true = part.content != [0];
        scope = match (part.tag, is_true) {
            (0x81, true) if scope == CrlScope::All => CrlScope::Users,
            (0x82, true) if scope == CrlScope::All => CrlScope::Authorities,
            (0x84, true) => return Err(CrlFault::Indirect),
            (0x81 | 0x82 | 0x84 | 0x85, false) => scope,
            // A distribution point of its own, some reasons only, attribute certificates only.
            _ => return Err(CrlFault::Partition),
        };
    }
    Ok(scope)
}

pub(super) struct Extension<'a> {
    /// The last arc of an extension in id-ce; `None` for any other.
    arc: Option<u8>,
    pub(super) is_critical: bool,
    value: &'a [u8],
}

pub(super) fn all_extensions(list: Element<'_>) -> Result<Vec<Extension<'_>>, CrlFault> {
    let mut extensions = Vec::new();
    let mut members = Children::of(list);
    while let Some(member) = read(members.next())? {
        if extensions.len() >= MAX_EXTENSIONS {
            return Err(CrlFault::Malformed("it has too many extensions"));
        }
        let mut parts = Children::of(of_kind(Some(member), TAG_SEQUENCE)?);
        let oid = of_kind(read(parts.next())?, TAG_OID)?;
        let mut next = read(parts.next())?;
        let critical = next.filter(|part| part.tag == TAG_BOOLEAN);
        if critical.is_some() {
            next = read(parts.next())?;
        }
        extensions.push(Extension {
            arc: match oid.content.strip_prefix(&ID_CE) {
                Some([arc]) => Some(*arc),
                _ => None,
            },
            is_critical: critical.is_some_and(|critical| critical.content != [0]),
            value: of_kind(next, TAG_OCTET_STRING)?.content,
        });
    }
    Ok(extensions)
}

/// How a list is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Algorithm {
    key: Id,
    bits: u16,
}

impl Algorithm {
    /// By the OIDs of RFC 4055 and RFC 5758. SHA-1 is refused, as on certificates (CERT-10).
    pub(super) fn read(algorithm: Element<'_>) -> Result<Self, CrlFault> {
        const RSA: [u8; 8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
        const ECDSA: [u8; 7] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03];
        let oid = of_kind(read(Children::of(algorithm).next())?, TAG_OID)?.content;
        let (key, bits) = match (oid.strip_prefix(&RSA), oid.strip_prefix(&ECDSA)) {
            (Some([11]), _) => (Id::RSA, 256),
            (Some([12]), _) => (Id::RSA, 384),
            (Some([13]), _) => (Id::RSA, 512),
            (_, Some([2])) => (Id::EC, 256),
            (_, Some([3])) => (Id::EC, 384),
            (_, Some([4])) => (Id::EC, 512),
            _ => return Err(CrlFault::Algorithm),
        };
        Ok(Self { key, bits })
    }

    fn digest(self) -> MessageDigest {
        match self.bits {
            256 => MessageDigest::sha256(),
            384 => MessageDigest::sha384(),
            _ => MessageDigest::sha512(),
        }
    }

    fn md(self) -> &'static MdRef {
        match self.bits {
            256 => Md::sha256(),
            384 => Md::sha384(),
            _ => Md::sha512(),
        }
    }
}

pub(super) fn read<T>(found: Result<T, super::OpenError>) -> Result<T, CrlFault> {
    found.map_err(|_| CrlFault::Malformed("its DER breaks off or is not understood"))
}

pub(super) fn of_kind(found: Option<Element<'_>>, tag: u8) -> Result<Element<'_>, CrlFault> {
    found
        .filter(|element| element.tag == tag)
        .ok_or(CrlFault::Malformed("a part is missing or of another kind"))
}

pub(super) fn time(found: Option<Element<'_>>) -> Result<Timestamp, CrlFault> {
    const MALFORMED: CrlFault =
        CrlFault::Malformed("thisUpdate or nextUpdate is missing or no time");
    let found = found.ok_or(MALFORMED)?;
    let text = std::str::from_utf8(found.content).map_err(|_| MALFORMED)?;
    let text = match found.tag {
        // RFC 5280 §4.1.2.5.1: from 1950 to 2049.
        TAG_UTC_TIME if text.get(..2).is_some_and(|year| year >= "50") => format!("19{text}"),
        TAG_UTC_TIME => format!("20{text}"),
        TAG_GENERALIZED_TIME => text.to_owned(),
        _ => return Err(MALFORMED),
    };
    let time = Asn1Time::from_str(&text).map_err(|_| MALFORMED)?;
    super::certificate::timestamp(&time).ok_or(MALFORMED)
}

/// The magnitude of an INTEGER; old CAs wrote negative numbers.
pub(super) fn magnitude(content: &[u8]) -> Vec<u8> {
    if content.first().is_none_or(|first| first & 0x80 == 0) {
        return content.to_vec();
    }
    let mut octets: Vec<u8> = content.iter().map(|octet| !octet).collect();
    for octet in octets.iter_mut().rev() {
        let (sum, is_over) = octet.overflowing_add(1);
        *octet = sum;
        if !is_over {
            break;
        }
    }
    octets
}

pub(super) fn serial(octets: &[u8]) -> Option<Serial> {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    let octets = octets.get(zeros..)?;
    let mut serial = [0; SERIAL_OCTETS];
    let start = SERIAL_OCTETS.checked_sub(octets.len())?;
    serial.get_mut(start..)?.copy_from_slice(octets);
    Some(serial)
}
