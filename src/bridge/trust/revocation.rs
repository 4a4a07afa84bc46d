//! Is a certificate of a path revoked, as far as its issuers' lists say? (certificates.md section 7.)

use std::{cmp::Ordering, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use openssl::{
    pkey::{PKey, Public},
    x509::{X509, X509KeyUsage, X509Ref},
};
use serde::{Deserialize, Serialize};

use crate::formats::smime::{certificate, crl::Crl};

/// How far a list's start may lie ahead of our clock, as for certificates (CERT-11).
const START_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// What follows when the status of a certificate cannot be known (REV-4). A revoked one is never used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenUnknown {
    /// It is used; a list that is stale is told to the operator.
    #[default]
    Soft,
    /// It is not used: what needs it waits for a list.
    Hard,
}

/// The lists that a domain goes by.
#[derive(Clone, Debug, Default)]
pub struct Revocation {
    /// Complete lists, of any issuer. None is believed without its issuer's signature.
    pub crls: Vec<Arc<Crl>>,
    /// What follows when they do not tell.
    pub when_unknown: WhenUnknown,
}

/// What the lists say of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked,
    /// The newest list is past its nextUpdate.
    Stale,
    /// No list speaks about it.
    Unlisted,
}

impl Revocation {
    /// What the newest list says that the certificate's issuer signed and that is in force at `now`: a certificate that
    /// was on hold and is not on the newest list is good again. A stale list still revokes.
    pub(super) fn status(&self, certificate: &X509Ref, issuer: &X509Ref, now: Timestamp) -> Status {
        let is_ca = certificate::is_ca(certificate);
        let lists = |crl: &Crl| crl.lists(certificate.serial_number());
        let mut issuer_key = None;
        let mut newest: Option<&Crl> = None;
        for crl in &self.crls {
            let counts = crl.scope().covers(is_ca)
                && has_begun(crl, now)
                && newest.is_none_or(|newest| match rank(newest).cmp(&rank(crl)) {
                    Ordering::Less => true,
                    // Nothing tells which came later: revoked by either is revoked.
                    Ordering::Equal => !lists(newest),
                    Ordering::Greater => false,
                })
                && names(crl, issuer);
            if !counts {
                continue;
            }
            if issuer_key.is_none() {
                issuer_key = key_for_crls(issuer);
            }
            let Some(key) = &issuer_key else {
                return Status::Unlisted;
            };
            if crl.is_signed_by(key) {
                newest = Some(crl);
            }
        }
        match newest {
            None => Status::Unlisted,
            Some(crl) if lists(crl) => Status::Revoked,
            Some(crl) if crl.next_update() <= now => Status::Stale,
            Some(_) => Status::Good,
        }
    }

    /// When what the lists say changes next by time alone: one comes into force, or becomes stale.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let times = self.crls.iter().flat_map(|crl| {
            let start = crl.this_update().checked_sub(START_TOLERANCE);
            [start.unwrap_or(now), crl.next_update()]
        });
        times.filter(|time| *time > now).min()
    }
}

/// Whether a list is of the present: one of the future says nothing yet.
pub fn has_begun(crl: &Crl, now: Timestamp) -> bool {
    let latest_start = now.checked_add(START_TOLERANCE).unwrap_or(now);
    crl.this_update() <= latest_start
}

/// Which of several lists by one issuer is the latest.
fn rank(crl: &Crl) -> (Timestamp, Option<&[u8]>) {
    (crl.this_update(), crl.number())
}

/// Whether `issuer` signed the list: by its key, not by its name alone, and a key that may sign lists (REV-2).
pub fn is_crl_of(crl: &Crl, issuer: &X509Ref) -> bool {
    names(crl, issuer) && key_for_crls(issuer).is_some_and(|key| crl.is_signed_by(&key))
}

fn names(crl: &Crl, issuer: &X509Ref) -> bool {
    let order = issuer.subject_name().try_cmp(crl.issuer());
    order.is_ok_and(|order| order.is_eq())
}

/// RFC 5280 §6.3.3 f: a keyUsage, where there is one, must hold cRLSign.
fn key_for_crls(issuer: &X509Ref) -> Option<PKey<Public>> {
    let may_sign = issuer
        .key_usage()
        .is_none_or(|usage| usage.contains(X509KeyUsage::CRL_SIGN));
    may_sign.then(|| issuer.public_key().ok()).flatten()
}

/// What is not known of a certificate, since no list in date tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The newest list of its issuer is past its nextUpdate.
    Stale,
    /// There is no list of its issuer.
    Missing,
}

impl Doubt {
    /// One word, for the audit.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Missing => "missing",
        }
    }
}

/// What the lists say of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathStatus {
    Good,
    /// The certificate with so many others below it is revoked.
    Revoked(usize),
    /// Its status is not known.
    Unknown(usize, Doubt),
}

/// Asks for every certificate of `path` below its anchor; of an end entity that is itself the anchor, its issuer is
/// looked for in `others` (TA-5).
pub(super) fn judge_path(
    revocation: &Revocation,
    path: &[X509],
    others: &[X509],
    now: Timestamp,
) -> PathStatus {
    // Who has no lists, and need not have any, doubts nothing.
    if revocation.crls.is_empty() && revocation.when_unknown == WhenUnknown::Soft {
        return PathStatus::Good;
    }
    let mut unknown = None;
    let mut ask = |depth: usize, certificate: &X509Ref, issuer: &X509Ref| {
        let status = revocation.status(certificate, issuer, now);
        let doubt = match status {
            Status::Stale => Some(Doubt::Stale),
            Status::Unlisted => Some(Doubt::Missing),
            Status::Good | Status::Revoked => None,
        };
        unknown = unknown.or(doubt.map(|doubt| PathStatus::Unknown(depth, doubt)));
        status == Status::Revoked
    };
    for (depth, pair) in path.windows(2).enumerate() {
        if let [certificate, issuer] = pair
            && ask(depth, certificate, issuer)
        {
            return PathStatus::Revoked(depth);
        }
    }
    if let [alone] = path {
        let signed = |issuer: &&X509| {
            alone
                .issuer_name()
                .try_cmp(issuer.subject_name())
                .is_ok_and(|order| order.is_eq())
                && issuer
                    .public_key()
                    .and_then(|key| alone.verify(&key))
                    .unwrap_or(false)
        };
        // Nobody answers for one that nobody known has issued: it was configured by itself.
        if let Some(issuer) = std::iter::once(alone).chain(others).find(signed)
            && ask(0, alone, issuer)
        {
            return PathStatus::Revoked(0);
        }
    }
    unknown.unwrap_or(PathStatus::Good)
}
