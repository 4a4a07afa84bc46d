//! Is this certificate acceptable for this address at this time? (certificates.md sections 1, 2, 6.) The one judgement
//! for recipients' certificates before encrypting and for signers' certificates after verifying (BIND-4).

mod checks;
mod demands;
mod fetched;
mod path;
mod recent;
mod revocation;

use std::{cell::RefCell, cmp::Ordering, collections::HashSet, fmt};

use jiff::Timestamp;
use openssl::{
    asn1::Asn1IntegerRef,
    x509::{X509, X509Ref},
};

use super::exchange::Reason;
use crate::formats::{
    ids::{CertificateFingerprint, DirectAddress, DomainName},
    smime::{
        Legacy,
        certificate::{self, Validity},
        policy::{KeyFault, KeyUse, check_key, is_strong_certificate_signature},
    },
};

use path::{Path, Search};

pub use checks::Check;
pub use demands::{Demands, KeyKind, Unmet};
pub use fetched::{FetchedCrl, FetchedMaterial, Fetches, MAX_FETCHES, Want, WantKey, Wants};
pub use path::PathFault;
pub use recent::{Question, RecentJudgements};
pub use revocation::{Doubt, Revocation, RevokedBy, Unknown, WhenUnknown, has_begun, is_crl_of};

/// One certificate as it was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateCandidate {
    /// Its DER form, not yet parsed: garbage beside a good certificate must not spoil it (DNS-7).
    pub der: Vec<u8>,
    /// Where it was found, such as `file direct.harbor.example.pem` or `dns rui.direct.harbor.example`.
    pub origin: String,
}

/// The configured trust anchors of a domain. A certificate is an anchor only by being byte-identical to one of them
/// (TA-4, TA-6).
#[derive(Clone, Default)]
pub struct TrustAnchors {
    certificates: Vec<X509>,
    fingerprints: HashSet<CertificateFingerprint>,
}

impl TrustAnchors {
    /// The anchors, without doubles. A certificate that cannot be written as DER cannot be compared and is left out.
    pub fn new(certificates: impl IntoIterator<Item = X509>) -> Self {
        let mut anchors = Self::default();
        for certificate in certificates {
            let Some(fingerprint) = fingerprint(&certificate) else {
                continue;
            };
            if anchors.fingerprints.insert(fingerprint) {
                anchors.certificates.push(certificate);
            }
        }
        anchors
    }

    /// Whether `certificate` is one of them, octet by octet.
    pub fn contains(&self, certificate: &X509Ref) -> bool {
        fingerprint(certificate).is_some_and(|found| self.fingerprints.contains(&found))
    }

    /// The anchors.
    pub fn certificates(&self) -> &[X509] {
        &self.certificates
    }

    /// Whether nobody is trusted (TA-2).
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }
}

impl fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.fingerprints).finish()
    }
}

fn fingerprint(certificate: &X509Ref) -> Option<CertificateFingerprint> {
    let der = certificate.to_der().ok()?;
    Some(CertificateFingerprint::of_der(&der))
}

/// What a certificate is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To encrypt to the address.
    Encrypt,
    /// To verify a signature of the address.
    Verify,
}

/// How a certificate is bound to an address. A later one is the narrower, and wins (BIND-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Binding {
    /// By a dNSName that is exactly the address's domain.
    Domain,
    /// By an rfc822Name that is the whole address.
    Address,
}

/// Whether, and how, `certificate` is bound to `address` (certificates.md section 2). Neither the common name nor the
/// subject's emailAddress ever binds (BIND-5).
pub fn binds(certificate: &X509Ref, address: &DirectAddress) -> Option<Binding> {
    // Parsing both sides makes the comparison BIND-1 asks for: no case, A-labels, no trailing dot, no wildcard.
    let is_address = |text: &str| text.parse::<DirectAddress>().as_ref() == Ok(address);
    let emails = certificate::email_names(certificate);
    if emails.iter().any(|name| is_address(name)) {
        // CERT-5: a second address in the subject must be the same.
        let mut subject = certificate::subject_emails(certificate).into_iter();
        let agrees = subject.all(|email| email.is_some_and(|email| is_address(&email)));
        return agrees.then_some(Binding::Address);
    }
    let is_domain = |text: &String| text.parse::<DomainName>().as_ref() == Ok(address.domain());
    certificate::dns_names(certificate)
        .iter()
        .any(is_domain)
        .then_some(Binding::Domain)
}

/// Why a candidate is not used: the first check that failed, in the order of DISC-9.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a DER certificate.
    #[error("not a readable X.509 certificate in DER form (CERT-1)")]
    Unreadable,
    /// A CA's certificate: material for paths only.
    #[error("a CA's certificate, not an end entity's (CERT-6, DNS-8)")]
    NotEndEntity,
    /// Its time has not come.
    #[error("not valid yet (CERT-11)")]
    NotYetValid,
    /// Its time is over.
    #[error("expired (CERT-11)")]
    Expired,
    /// It names another address or domain, or none.
    #[error(
        "not bound to the address: subjectAltName names neither it nor exactly its domain (CERT-2 to CERT-5)"
    )]
    NotBound,
    /// keyUsage or extended key usage says no.
    #[error("keyUsage or extKeyUsage does not allow it (CERT-7, CERT-8)")]
    Usage,
    /// The key is too weak, or of a wrong kind.
    #[error("{0} (CERT-9)")]
    Key(KeyFault),
    /// The signature on the certificate is too weak.
    #[error(
        "signed with an algorithm that is not accepted; SHA-256, SHA-384 and SHA-512 are (CERT-10)"
    )]
    Signature,
    /// No path to an anchor.
    #[error("{0}")]
    Path(PathFault),
    /// A demand of the domain beyond the rules that all follow.
    #[error("{0}")]
    Demands(Unmet),
}

impl Fault {
    /// Whether a revocation list, or an issuer's certificate, that comes may still mend it (REV-4, TA-7).
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Path(
                PathFault::RevocationUnknown { .. }
                    | PathFault::IssuerLacking {
                        is_transient: true,
                        ..
                    }
            )
        )
    }
}

/// What became of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it is bound to the address, as far as that was asked.
    pub binding: Option<Binding>,
    /// The first check that it failed; `None` for a usable one.
    pub fault: Option<Fault>,
}

impl Verdict {
    /// Whether the certificate may be used.
    pub fn is_usable(&self) -> bool {
        self.fault.is_none()
    }
}

/// The certificate to use.
#[derive(Clone)]
pub struct Chosen {
    /// Its place among the candidates.
    pub index: usize,
    /// The certificate.
    pub certificate: X509,
    /// How it is bound to the address.
    pub binding: Binding,
    /// From the certificate itself to the anchor, both included.
    pub path: Vec<X509>,
    /// What is not known of the revocation of the path: tolerated, and told (REV-4).
    pub doubt: Option<Doubt>,
    /// Until when what was fetched about its revocation is in date.
    pub known_until: Option<Timestamp>,
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen")
            .field("index", &self.index)
            .field("binding", &self.binding)
            .field("path_length", &self.path.len())
            .field("doubt", &self.doubt)
            .finish_non_exhaustive()
    }
}

/// Why none of the candidates serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The token of table RT.
    pub reason: Reason,
    /// Whether a revocation list or an issuer's certificate that comes may still make one serve: it is asked again then,
    /// and refused only when time is over (REV-4, TA-7).
    pub is_temporary: bool,
}

impl From<Reason> for Refusal {
    /// For good.
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            is_temporary: false,
        }
    }
}

/// What was decided over all candidates.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The certificate to use.
    pub chosen: Option<Chosen>,
    /// One verdict for each candidate, in their order.
    pub verdicts: Vec<Verdict>,
    /// Why none serves; `None` exactly when one was chosen.
    pub refusal: Option<Refusal>,
    /// What might be fetched, so that more is known.
    pub wants: Wants,
}

impl Judgement {
    /// The judgement over no candidate at all.
    pub fn of_nothing() -> Self {
        Self {
            chosen: None,
            verdicts: Vec::new(),
            refusal: Some(Reason::NoCertificate.into()),
            wants: Wants::default(),
        }
    }
}

/// What a path to trust is made of.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Where a path may end.
    pub anchors: &'a TrustAnchors,
    /// They only complete paths, and are no trust (DISC-8).
    pub intermediates: &'a [X509],
    /// The weak algorithms that are taken.
    pub allow_legacy: &'a [Legacy],
    /// Which certificates are revoked; `None`: not asked.
    pub revocation: Option<&'a Revocation>,
    /// What is demanded beyond the rules that all follow; `None`: nothing.
    pub demands: Option<&'a Demands>,
    /// What was fetched from the URLs in certificates; `None`: nothing is fetched.
    pub fetched: Option<&'a FetchedMaterial>,
}

/// Judges every candidate, best source first, and chooses one for `address`.
///
/// Among usable ones the narrower binding wins (BIND-2), then the latest start of validity, then the lowest serial
/// number (DISC-2).
pub fn judge(
    candidates: &[CertificateCandidate],
    address: &DirectAddress,
    purpose: Purpose,
    terms: &Terms<'_>,
    now: Timestamp,
) -> Judgement {
    let judge = Judge {
        address,
        purpose,
        terms: *terms,
        now,
        wants: RefCell::default(),
    };
    let mut chosen: Option<Chosen> = None;
    let mut verdicts = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let (verdict, usable) = judge.look_at(index, candidate);
        verdicts.push(verdict);
        if let Some(usable) = usable
            && chosen.as_ref().is_none_or(|best| is_better(&usable, best))
        {
            chosen = Some(usable);
        }
    }
    let refusal = chosen.is_none().then(|| refusal(&verdicts));
    Judgement {
        chosen,
        verdicts,
        refusal,
        wants: judge.wants.into_inner(),
    }
}

/// Table RT over all candidates, of one source or of several: `certificateRevoked` when one is revoked (REV-5),
/// `policyRefused` when one would serve but for what the domain demands, `untrusted` when one would but for its path, else
/// `noCertificate`.
pub fn refusal<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Refusal {
    let faults = verdicts.into_iter().filter_map(|it| it.fault.as_ref());
    let mut refusal = Refusal::from(Reason::NoCertificate);
    for fault in faults {
        refusal.is_temporary |= fault.is_temporary();
        refusal.reason = match (fault, refusal.reason) {
            (Fault::Path(PathFault::Revoked { .. }), _) | (_, Reason::CertificateRevoked) => {
                Reason::CertificateRevoked
            }
            // It would serve, but for what this domain demands.
            (Fault::Demands(_), _) | (_, Reason::PolicyRefused) => Reason::PolicyRefused,
            (Fault::Path(_), _) => Reason::Untrusted,
            (_, reason) => reason,
        };
    }
    refusal
}

fn is_better(new: &Chosen, best: &Chosen) -> bool {
    let start = |chosen: &Chosen| certificate::timestamp(chosen.certificate.not_before());
    new.binding
        .cmp(&best.binding)
        .then_with(|| start(new).cmp(&start(best)))
        .then_with(|| {
            let serials = [&best.certificate, &new.certificate].map(|c| serial(c.serial_number()));
            let [best, new] = serials;
            best.cmp(&new)
        })
        == Ordering::Greater
}

/// A serial number as octets of one length: RFC 5280 §4.1.2.2 allows 20.
fn serial(number: &Asn1IntegerRef) -> Vec<u8> {
    const OCTETS: i32 = 32;
    let number = number.to_bn();
    number
        .and_then(|number| number.to_vec_padded(OCTETS))
        .unwrap_or_default()
}

/// A valid path from `certificate` to the first anchor met, both included (TA-4 to TA-11). Neither its names nor its
/// uses are asked. A path with a revoked certificate is none.
pub fn path_to_anchor(
    certificate: &X509Ref,
    terms: &Terms<'_>,
    now: Timestamp,
) -> Result<Vec<X509>, PathFault> {
    let wants = &RefCell::default();
    let terms = *terms;
    let search = Search { terms, now, wants };
    search.find(certificate).map(|path| path.certificates)
}

struct Judge<'a> {
    address: &'a DirectAddress,
    purpose: Purpose,
    terms: Terms<'a>,
    now: Timestamp,
    /// What was found lacking.
    wants: RefCell<Wants>,
}

impl Judge<'_> {
    fn look_at(&self, index: usize, candidate: &CertificateCandidate) -> (Verdict, Option<Chosen>) {
        let mut binding = None;
        match self.check(candidate, &mut binding) {
            Ok((certificate, bound, path)) => {
                let chosen = Chosen {
                    index,
                    certificate,
                    binding: bound,
                    path: path.certificates,
                    doubt: path.doubt,
                    known_until: path.known_until,
                };
                let fault = None;
                (Verdict { binding, fault }, Some(chosen))
            }
            Err(fault) => {
                let fault = Some(fault);
                (Verdict { binding, fault }, None)
            }
        }
    }

    /// The checks, in the one order of DISC-9.
    fn check(
        &self,
        candidate: &CertificateCandidate,
        binding: &mut Option<Binding>,
    ) -> Result<(X509, Binding, Path), Fault> {
        let certificate = parse(&candidate.der).ok_or(Fault::Unreadable)?;
        if certificate::is_ca(&certificate) {
            return Err(Fault::NotEndEntity);
        }
        match certificate::validity(&certificate, self.now) {
            Validity::Valid => {}
            Validity::NotYet => return Err(Fault::NotYetValid),
            Validity::Expired => return Err(Fault::Expired),
        }
        *binding = binds(&certificate, self.address);
        let bound = binding.ok_or(Fault::NotBound)?;
        if !self.allows_use(&certificate) {
            return Err(Fault::Usage);
        }
        self.check_strength(&certificate)?;
        let (terms, now, wants) = (self.terms, self.now, &self.wants);
        let path = Search { terms, now, wants }
            .find(&certificate)
            .map_err(Fault::Path)?;
        let unmet = self.terms.demands;
        match unmet.and_then(|demands| demands.unmet(&path.certificates)) {
            Some(unmet) => Err(Fault::Demands(unmet)),
            None => Ok((certificate, bound, path)),
        }
    }

    fn allows_use(&self, certificate: &X509Ref) -> bool {
        match self.purpose {
            Purpose::Encrypt => certificate::key_usable_for_encryption(certificate),
            Purpose::Verify => certificate::key_usable_for_signing(certificate),
        }
    }

    fn check_strength(&self, certificate: &X509Ref) -> Result<(), Fault> {
        let key_use = match self.purpose {
            Purpose::Encrypt => KeyUse::Make,
            Purpose::Verify => KeyUse::Receive,
        };
        let key = certificate
            .public_key()
            .map_err(|_| Fault::Key(KeyFault::Kind))?;
        check_key(&key, key_use, self.terms.allow_legacy).map_err(Fault::Key)?;
        let algorithm = certificate.signature_algorithm().object().nid();
        // An anchor is trusted for itself, not for the signature on it (TA-5).
        if self.terms.anchors.contains(certificate)
            || is_strong_certificate_signature(algorithm, self.terms.allow_legacy)
        {
            Ok(())
        } else {
            Err(Fault::Signature)
        }
    }
}

/// Reads exactly one certificate: octets after it are refused.
fn parse(der: &[u8]) -> Option<X509> {
    let certificate = X509::from_der(der).ok()?;
    let is_whole = certificate.to_der().is_ok_and(|again| again == der);
    is_whole.then_some(certificate)
}
