//! OCSP (RFC 6960, and its profile for many certificates, RFC 5019): the question about one certificate, and the answer,
//! believed only when its issuer, or whom that issuer charged with it, has signed it.

use jiff::Timestamp;
use openssl::{
    error::ErrorStack,
    hash::MessageDigest,
    ocsp::{OcspCertId, OcspCertStatus, OcspFlag, OcspRequest, OcspResponse, OcspResponseStatus},
    stack::Stack,
    x509::{
        X509, X509Ref,
        store::{X509Store, X509StoreBuilder},
        verify::{X509VerifyFlags, X509VerifyParam},
    },
};

use super::{
    ber::{Children, Element, TAG_CONTEXT_0, TAG_SEQUENCE, element},
    crl::{
        Algorithm, CrlFault, TAG_BIT_STRING, TAG_INTEGER, TAG_OCTET_STRING, all_extensions,
        magnitude, of_kind, read, serial, time,
    },
};

/// Most answers about single certificates in one response.
const MAX_SINGLE_RESPONSES: usize = 100;
/// Bits of security that the certificate of a responder must have: 112, so no SHA-1 and no RSA below 2048 bits (CERT-10).
const AUTH_LEVEL: i32 = 2;

/// What a responder says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspStatus {
    /// Not revoked.
    Good,
    /// Revoked, or on hold.
    Revoked,
    /// The responder does not know it.
    Unknown,
}

/// An answer whose signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OcspAnswer {
    /// What it says.
    pub status: OcspStatus,
    /// When this was known to be so.
    pub this_update: Timestamp,
    /// Until when newer knowledge is promised.
    pub next_update: Option<Timestamp>,
}

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspFault {
    /// Not a response.
    #[error("it is no readable OCSP response (RFC 6960)")]
    Malformed,
    /// The responder gives none.
    #[error("the responder gives no answer: {0}")]
    Status(&'static str),
    /// Signed in a way that is not accepted.
    #[error(
        "it is signed with an algorithm that is not accepted; RSA or ECDSA with SHA-256, SHA-384 or SHA-512 is (CERT-10)"
    )]
    Algorithm,
    /// It speaks of other certificates.
    #[error("it says nothing about the certificate: another one, or another issuer's (REV-3)")]
    OtherCertificate,
    /// Nobody who may has signed it.
    #[error(
        "it is signed neither by the certificate's issuer nor by a responder that has its issuer's certificate for OCSPSigning (REV-3)"
    )]
    NotSigned,
    /// A critical extension that we do not know.
    #[error("it has a critical extension that is not known")]
    UnknownExtension,
}

impl From<CrlFault> for OcspFault {
    fn from(_: CrlFault) -> Self {
        Self::Malformed
    }
}

/// The question about `certificate`, in DER form. Without a nonce: answers may be made in advance (RFC 5019 §2.1.1).
pub fn question(certificate: &X509Ref, issuer: &X509Ref) -> Result<Vec<u8>, ErrorStack> {
    let mut request = OcspRequest::new()?;
    request.add_id(certificate_id(certificate, issuer)?)?;
    request.to_der()
}

/// SHA-1 only names the issuer here (RFC 5019 §2.1.1); nothing rests on it.
fn certificate_id(certificate: &X509Ref, issuer: &X509Ref) -> Result<OcspCertId, ErrorStack> {
    OcspCertId::from_cert(MessageDigest::sha1(), certificate, issuer)
}

impl OcspAnswer {
    /// Reads a response in DER form about `certificate`, which `issuer` has signed. `now` decides whether the certificate
    /// of a charged responder is valid; whether the answer is in date is not asked.
    pub fn read(
        der: &[u8],
        certificate: &X509Ref,
        issuer: &X509,
        now: Timestamp,
    ) -> Result<Self, OcspFault> {
        let response = OcspResponse::from_der(der).map_err(|_| OcspFault::Malformed)?;
        if let Some(refusal) = refusal(response.status()) {
            return Err(OcspFault::Status(refusal));
        }
        let single = Single::find(der, certificate)?;
        let basic = response.basic().map_err(|_| OcspFault::Malformed)?;
        let setup = || -> Result<(Stack<X509>, X509Store), ErrorStack> {
            // An answer of the issuer's own need not bring its certificate.
            let mut known = Stack::new()?;
            known.push(issuer.clone())?;
            Ok((known, issuer_alone(issuer, now)?))
        };
        let (known, trusted) = setup().map_err(|_| OcspFault::Malformed)?;
        // NO_EXPLICIT: no responder is trusted for anything but its certificate of this issuer.
        basic
            .verify(&known, &trusted, OcspFlag::NO_EXPLICIT)
            .map_err(|_| OcspFault::NotSigned)?;
        let id = certificate_id(certificate, issuer).map_err(|_| OcspFault::Malformed)?;
        let found = basic.find_status(&id).ok_or(OcspFault::OtherCertificate)?;
        let status = match found.status {
            OcspCertStatus::GOOD => OcspStatus::Good,
            OcspCertStatus::REVOKED => OcspStatus::Revoked,
            _ => OcspStatus::Unknown,
        };
        Ok(Self {
            status,
            this_update: single.this_update,
            next_update: single.next_update,
        })
    }

    /// Whether it was known to be so later than `other` was.
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.this_update < other.this_update
    }
}

fn refusal(status: OcspResponseStatus) -> Option<&'static str> {
    match status {
        OcspResponseStatus::SUCCESSFUL => None,
        OcspResponseStatus::MALFORMED_REQUEST => Some("malformedRequest"),
        OcspResponseStatus::INTERNAL_ERROR => Some("internalError"),
        OcspResponseStatus::TRY_LATER => Some("tryLater"),
        OcspResponseStatus::SIG_REQUIRED => Some("sigRequired"),
        OcspResponseStatus::UNAUTHORIZED => Some("unauthorized"),
        _ => Some("an unknown status"),
    }
}

fn issuer_alone(issuer: &X509, now: Timestamp) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(issuer.clone())?;
    let mut rules = X509VerifyParam::new()?;
    rules.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    rules.set_auth_level(AUTH_LEVEL);
    rules.set_time(now.as_second());
    store.set_param(&rules)?;
    Ok(store.build())
}

/// What OpenSSL's safe face does not tell of an answer.
struct Single {
    this_update: Timestamp,
    next_update: Option<Timestamp>,
}

impl Single {
    /// The one answer in the response that is about a certificate of this number.
    fn find(der: &[u8], certificate: &X509Ref) -> Result<Self, OcspFault> {
        let wanted = certificate.serial_number().to_bn();
        let wanted = wanted.map_err(|_| OcspFault::OtherCertificate)?.to_vec();
        let wanted = serial(&wanted).ok_or(OcspFault::OtherCertificate)?;
        let mut found = None;
        for single in singles(der)? {
            let mut parts = Children::of(of_kind(Some(single), TAG_SEQUENCE)?);
            let mut id = Children::of(of_kind(read(parts.next())?, TAG_SEQUENCE)?);
            // hashAlgorithm, issuerNameHash, issuerKeyHash.
            for _ in 0..3 {
                read(id.next())?;
            }
            let number = of_kind(read(id.next())?, TAG_INTEGER)?;
            let _status = read(parts.next())?;
            let this_update = time(read(parts.next())?)?;
            let mut next_update = None;
            while let Some(part) = read(parts.next())? {
                match part.tag {
                    TAG_CONTEXT_0 => {
                        next_update = Some(time(read(Children::of(part).next())?)?);
                    }
                    _ => no_critical(part)?,
                }
            }
            if serial(&magnitude(number.content)) != Some(wanted) {
                continue;
            }
            let single = Self {
                this_update,
                next_update,
            };
            if found.replace(single).is_some() {
                // Of two issuers, or twice: which one counts, nobody could tell.
                return Err(OcspFault::OtherCertificate);
            }
        }
        found.ok_or(OcspFault::OtherCertificate)
    }
}

/// The single answers of a response whose signature is of an accepted kind (RFC 6960 §4.2.1).
fn singles(der: &[u8]) -> Result<Vec<Element<'_>>, OcspFault> {
    const TAG_CONTEXT_1: u8 = 0xA1;
    let (response, rest) = read(element(der, 0))?;
    if !rest.is_empty() {
        return Err(OcspFault::Malformed);
    }
    let mut response = Children::of(of_kind(Some(response), TAG_SEQUENCE)?);
    read(response.next())?;
    let octets = of_kind(read(response.next())?, TAG_CONTEXT_0)?;
    let octets = of_kind(read(Children::of(octets).next())?, TAG_SEQUENCE)?;
    let mut octets = Children::of(octets);
    read(octets.next())?;
    let basic = of_kind(read(octets.next())?, TAG_OCTET_STRING)?.content;
    let (basic, _) = read(element(basic, 0))?;
    let mut basic = Children::of(of_kind(Some(basic), TAG_SEQUENCE)?);
    let data = of_kind(read(basic.next())?, TAG_SEQUENCE)?;
    let algorithm = of_kind(read(basic.next())?, TAG_SEQUENCE)?;
    of_kind(read(basic.next())?, TAG_BIT_STRING)?;
    Algorithm::read(algorithm).map_err(|_| OcspFault::Algorithm)?;
    let mut data = Children::of(data);
    // version, responderID and producedAt come before the answers, which are the only SEQUENCE.
    let answers = loop {
        let part = read(data.next())?.ok_or(OcspFault::Malformed)?;
        if part.tag == TAG_SEQUENCE {
            break part;
        }
    };
    if let Some(extensions) = read(data.next())?
        && extensions.tag == TAG_CONTEXT_1
    {
        no_critical(extensions)?;
    }
    let mut answers = Children::of(answers);
    let mut singles = Vec::new();
    while let Some(single) = read(answers.next())? {
        if singles.len() >= MAX_SINGLE_RESPONSES {
            return Err(OcspFault::Malformed);
        }
        singles.push(single);
    }
    Ok(singles)
}

fn no_critical(wrapper: Element<'_>) -> Result<(), OcspFault> {
    let list = of_kind(read(Children::of(wrapper).next())?, TAG_SEQUENCE)?;
    let extensions = all_extensions(list)?;
    if extensions.iter().any(|extension| extension.is_critical) {
        return Err(OcspFault::UnknownExtension);
    }
    Ok(())
}
