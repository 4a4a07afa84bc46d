//! Finds a path from a certificate to a configured anchor and has it validated (RFC 5280 §6; TA-4 to TA-11).
//!
//! Names only order the candidates here: a step is taken when the issuer's key verifies the signature, so that neither
//! a forged certificate nor a second anchor of the same name can hide the right path. OpenSSL then judges each whole
//! path (basicConstraints, path lengths, keyCertSign, name constraints, critical extensions).

use std::cell::RefCell;

use jiff::Timestamp;
use openssl::{
    error::ErrorStack,
    stack::Stack,
    x509::{
        X509, X509Ref, X509StoreContext, X509VerifyResult,
        store::X509StoreBuilder,
        verify::{X509VerifyFlags, X509VerifyParam},
    },
};

use super::{
    Terms,
    fetched::{Want, Wants},
    revocation::{Doubt, PathStatus, RevokedBy, StatusSearch, Unknown},
};
use crate::formats::smime::{
    certificate::{self, Validity},
    policy::{KeyUse, check_key, is_strong_certificate_signature},
};

/// Most issuers above the end entity (TA-7).
const MAX_ISSUERS: usize = 5;
/// Most signatures that are verified for one certificate: a crafted heap of intermediates must not cost more.
const MAX_SIGNATURE_CHECKS: usize = 40;
/// Most whole paths that are handed to OpenSSL.
const MAX_PATHS: usize = 8;

/// Why there is no path to an anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// No anchor is configured.
    #[error("no trust anchor is configured: nobody is trusted (TA-2)")]
    NoAnchors,
    /// The signatures lead to no anchor that is valid now.
    #[error("no path leads to a valid configured trust anchor (TA-4, TA-11)")]
    NoPath,
    /// The certificate of an issuer on the way there was not to be had.
    #[error(
        "no path leads to a valid configured trust anchor, and {} was not to be had: {why} (TA-7)", if *.depth == 0 { "its issuer's certificate" } else { "the certificate of a CA's issuer" }
    )]
    IssuerLacking {
        /// How many certificates of the path are below the one whose issuer is lacking.
        depth: usize,
        /// Why not, without the URL.
        why: String,
        /// Whether it may be had at another time.
        is_transient: bool,
    },
    /// The signatures lead further than is followed.
    #[error(
        "no path of at most {MAX_ISSUERS} issuers leads to a valid configured trust anchor (TA-7)"
    )]
    TooLong,
    /// The search was given up: too many certificates with the same names.
    #[error(
        "the search for a path to a trust anchor was given up after {MAX_SIGNATURE_CHECKS} signatures (TA-7)"
    )]
    GivenUp,
    /// A path was found and breaks a rule.
    #[error("the path to the trust anchor is not valid: {0} (TA-9)")]
    Invalid(&'static str),
    /// A certificate of the path is revoked.
    #[error("{} is revoked by {} (REV-5)", place(*.depth), .by.word())]
    Revoked {
        /// How many certificates of the path are below it: 0 is the certificate itself.
        depth: usize,
        /// Who says so.
        by: RevokedBy,
    },
    /// Whether a certificate of the path is revoked is not known, and the domain is hard, or has waited long enough.
    #[error("whether {} is revoked is not known: {}; {} (REV-4)", place(*.depth), .unknown, if .unknown.is_overdue { "`revocation = \"soft\"` refuses it, too" } else { "`revocation = \"hard\"` refuses it" })]
    RevocationUnknown {
        /// How many certificates of the path are below it.
        depth: usize,
        /// Why not.
        unknown: Unknown,
    },
}

fn place(depth: usize) -> &'static str {
    match depth {
        0 => "the certificate itself",
        _ => "a CA's certificate on the path to the trust anchor",
    }
}

/// What a path is made of.
pub(super) struct Search<'a> {
    pub(super) terms: Terms<'a>,
    pub(super) now: Timestamp,
    /// Where what is lacking is noted down.
    pub(super) wants: &'a RefCell<Wants>,
}

/// How far the search has come.
struct Progress {
    path: Vec<X509>,
    signature_checks: usize,
    paths: usize,
    fault: PathFault,
    doubt: Option<Doubt>,
    known_until: Option<Timestamp>,
}

impl Progress {
    /// A path that fell by revocation says more than another that fell otherwise.
    fn tell(&mut self, fault: PathFault) {
        let weight = |fault: &PathFault| match fault {
            PathFault::Revoked { .. } => 4,
            PathFault::RevocationUnknown { .. } => 3,
            PathFault::Invalid(_) | PathFault::GivenUp => 2,
            PathFault::TooLong | PathFault::IssuerLacking { .. } => 1,
            PathFault::NoPath | PathFault::NoAnchors => 0,
        };
        if weight(&fault) >= weight(&self.fault) {
            self.fault = fault;
        }
    }
}

/// A valid path.
pub(super) struct Path {
    /// From the certificate to the first anchor met, both included.
    pub(super) certificates: Vec<X509>,
    /// What is not known of it and tolerated.
    pub(super) doubt: Option<Doubt>,
    /// Until when what was fetched about its revocation is in date.
    pub(super) known_until: Option<Timestamp>,
}

impl Search<'_> {
    /// A valid path from `certificate`.
    pub(super) fn find(&self, certificate: &X509Ref) -> Result<Path, PathFault> {
        if self.terms.anchors.is_empty() {
            return Err(PathFault::NoAnchors);
        }
        let mut progress = Progress {
            path: vec![certificate.to_owned()],
            signature_checks: 0,
            paths: 0,
            fault: PathFault::NoPath,
            doubt: None,
            known_until: None,
        };
        if self.extend(certificate, &mut progress) {
            // Whatever else could have led to it.
            self.wants.borrow_mut().forget_issuers();
            Ok(Path {
                certificates: progress.path,
                doubt: progress.doubt,
                known_until: progress.known_until,
            })
        } else {
            Err(progress.fault)
        }
    }

    /// Depth-first from `last`, the end of the path so far. True: the path is whole and valid.
    fn extend(&self, last: &X509Ref, progress: &mut Progress) -> bool {
        if self.terms.anchors.contains(last) {
            return self.is_valid(progress);
        }
        if progress.path.len() > MAX_ISSUERS {
            progress.tell(PathFault::TooLong);
            return false;
        }
        // Anchors first: the shortest path to one is the one wanted.
        let known = [self.terms.anchors.certificates(), self.terms.intermediates];
        known
            .into_iter()
            .any(|issuers| self.try_all(issuers, last, progress))
            || self.extend_by_fetched(last, progress)
    }

    /// Goes on with each of `issuers` that has signed `last`. True: one led to an anchor.
    fn try_all(&self, issuers: &[X509], last: &X509Ref, progress: &mut Progress) -> bool {
        for issuer in issuers {
            if !self.may_issue(issuer, last, &progress.path) {
                continue;
            }
            if progress.signature_checks >= MAX_SIGNATURE_CHECKS || progress.paths >= MAX_PATHS {
                progress.tell(PathFault::GivenUp);
                return false;
            }
            progress.signature_checks += 1;
            let is_signed = issuer.public_key().and_then(|key| last.verify(&key));
            if !is_signed.unwrap_or(false) {
                continue;
            }
            progress.path.push(issuer.clone());
            if self.extend(issuer, progress) {
                return true;
            }
            progress.path.pop();
        }
        false
    }

    /// Goes on with what the URLs in `last` gave (TA-7). What was not asked for yet is wanted.
    fn extend_by_fetched(&self, last: &X509Ref, progress: &mut Progress) -> bool {
        let Some(fetched) = self.terms.fetched.filter(|one| one.fetches_issuers()) else {
            return false;
        };
        for url in certificate::issuer_urls(last) {
            let want = Want::Issuer { url };
            let known = fetched.issuers(&want, self.now);
            if let Some(issuers) = &known.value
                && self.try_all(issuers, last, progress)
            {
                return true;
            }
            if known.value.is_none() {
                let lack = known.lack.as_ref();
                progress.tell(PathFault::IssuerLacking {
                    depth: progress.path.len() - 1,
                    why: lack
                        .map_or("there was no time to fetch it", |lack| &lack.why)
                        .to_owned(),
                    is_transient: lack.is_none_or(|lack| lack.is_transient),
                });
            }
            if known.is_due {
                self.wants.borrow_mut().add(want);
            }
        }
        false
    }

    /// The cheap questions that come before a signature is verified.
    fn may_issue(&self, issuer: &X509Ref, subject: &X509Ref, path: &[X509]) -> bool {
        let is_named = issuer
            .subject_name()
            .try_cmp(subject.issuer_name())
            .is_ok_and(|order| order.is_eq());
        is_named
            && certificate::is_ca(issuer)
            && certificate::validity(issuer, self.now) == Validity::Valid
            && issuer
                .public_key()
                .is_ok_and(|key| check_key(&key, KeyUse::Receive, self.terms.allow_legacy).is_ok())
            && self.is_strong(issuer)
            && !path.iter().any(|known| **known == *issuer)
    }

    /// SHA-1 below the anchor is refused (CERT-10); the signature on an anchor itself is not asked.
    fn is_strong(&self, issuer: &X509Ref) -> bool {
        let algorithm = issuer.signature_algorithm().object().nid();
        self.terms.anchors.contains(issuer)
            || is_strong_certificate_signature(algorithm, self.terms.allow_legacy)
    }

    /// Has OpenSSL judge exactly this path.
    fn is_valid(&self, progress: &mut Progress) -> bool {
        progress.paths += 1;
        match validate(&progress.path) {
            Ok(X509VerifyResult::OK) => self.is_unrevoked(progress),
            Ok(result) => {
                progress.tell(PathFault::Invalid(result.error_string()));
                false
            }
            Err(_) => {
                progress.tell(PathFault::Invalid("OpenSSL could not judge it"));
                false
            }
        }
    }
}

impl Search<'_> {
    /// Whether the revocation lists leave the path standing. Another path may not have the revoked CA in it.
    fn is_unrevoked(&self, progress: &mut Progress) -> bool {
        let Some(revocation) = self.terms.revocation else {
            return true;
        };
        let search = StatusSearch {
            revocation,
            fetched: self.terms.fetched.filter(|one| one.fetches_revocation()),
            others: self.terms.intermediates,
            now: self.now,
            wants: self.wants,
        };
        match search.judge(&progress.path) {
            PathStatus::Good { until } => {
                progress.known_until = until;
                return true;
            }
            PathStatus::Revoked { depth, by } => progress.tell(PathFault::Revoked { depth, by }),
            PathStatus::Unknown { unknown, .. } if unknown.is_tolerated(revocation) => {
                progress.doubt = Some(unknown.doubt);
                return true;
            }
            PathStatus::Unknown { depth, unknown } => {
                progress.tell(PathFault::RevocationUnknown { depth, unknown });
            }
        }
        false
    }
}

/// RFC 5280 §6 over `path`, whose last certificate is the only one trusted. Times were checked before, with our
/// tolerance.
fn validate(path: &[X509]) -> Result<X509VerifyResult, ErrorStack> {
    let (Some(leaf), Some(anchor)) = (path.first(), path.last()) else {
        return Ok(X509VerifyResult::APPLICATION_VERIFICATION);
    };
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(anchor.clone())?;
    let mut rules = X509VerifyParam::new()?;
    rules.set_flags(X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::NO_CHECK_TIME)?;
    store.set_param(&rules)?;
    let mut between = Stack::new()?;
    for certificate in path.iter().skip(1) {
        between.push(certificate.clone())?;
    }
    let mut context = X509StoreContext::new()?;
    context.init(&store.build(), leaf, &between, |context| {
        let is_valid = context.verify_cert()?;
        let result = context.error();
        // A path that OpenSSL built differently is not the one that was asked about.
        let ends_at_anchor = context
            .chain()
            .and_then(|chain| chain.iter().last())
            .is_some_and(|last| *last == **anchor);
        Ok(if is_valid && !ends_at_anchor {
            X509VerifyResult::APPLICATION_VERIFICATION
        } else {
            result
        })
    })
}
