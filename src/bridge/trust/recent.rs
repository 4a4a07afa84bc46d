//! Judgements that were just made. A message's certificate is judged when it is accepted, before it is sealed and before
//! it is sent, mostly within one second, and the same recipients come again and again; most of a judgement is the
//! decoding of keys and the verifying of signatures, which give the same each time.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use openssl::{sha::Sha256, x509::X509};

use super::{CertificateCandidate, Chosen, Purpose};
use crate::formats::{ids::DirectAddress, smime::certificate};

/// How long a judgement stands, and at most until the first certificate of its path expires.
const STANDS: SignedDuration = SignedDuration::from_secs(60);
/// How many are kept; then all are forgotten, which costs each recipient one judgement.
const KEPT: usize = 1_000;

/// The certificates that were chosen lately, under one set of anchors: it belongs to its domain, and a domain that is
/// loaded anew begins without any. Refusals are not kept: they are made anew each time.
#[derive(Default)]
pub struct RecentJudgements {
    chosen: Mutex<HashMap<Question, Standing>>,
}

/// What was asked: whose certificate for what, among which candidates, by which intermediates beside the domain's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question([u8; 32]);

struct Standing {
    chosen: Chosen,
    from: Timestamp,
    until: Timestamp,
}

impl RecentJudgements {
    /// What was chosen, if it stands at `now`.
    pub fn find(&self, question: Question, now: Timestamp) -> Option<Chosen> {
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = chosen.get(&question)?;
        let stands = standing.from <= now && now < standing.until;
        stands.then(|| standing.chosen.clone())
    }

    /// Keeps what was chosen at `now`, until `change` at most: what revocation lists say may be another thing then.
    pub fn keep(
        &self,
        question: Question,
        now: Timestamp,
        change: Option<Timestamp>,
        chosen: &Chosen,
    ) {
        let expiries = chosen
            .path
            .iter()
            .map(|certificate| certificate::timestamp(certificate.not_after()));
        // A time that cannot be read says nothing: such a judgement is not kept.
        let (Ok(mut until), Some(expiries)) = (
            now.checked_add(STANDS),
            expiries.collect::<Option<Vec<_>>>(),
        ) else {
            return;
        };
        until = expiries
            .into_iter()
            .chain(change)
            .chain(chosen.known_until)
            .fold(until, Timestamp::min);
        let standing = Standing {
            chosen: chosen.clone(),
            from: now,
            until,
        };
        let mut kept = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(question, standing);
    }
}

impl Clone for RecentJudgements {
    /// A copy of a domain may get other anchors: it begins without judgements.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for RecentJudgements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecentJudgements")
    }
}

impl Question {
    /// The question whose certificate among `candidates` serves `address`. `brought` came with a message and may
    /// complete a path: a message that brings others asks another question.
    pub fn of(
        candidates: &[CertificateCandidate],
        brought: &[X509],
        address: &DirectAddress,
        purpose: Purpose,
    ) -> Self {
        let mut sha = Sha256::new();
        let mut part = |octets: &[u8]| {
            sha.update(&(octets.len() as u64).to_be_bytes());
            sha.update(octets);
        };
        part(&[match purpose {
            Purpose::Encrypt => 1,
            Purpose::Verify => 2,
        }]);
        part(address.to_string().as_bytes());
        // How many there are keeps candidates and intermediates apart.
        part(&candidates.len().to_be_bytes());
        for candidate in candidates {
            part(&candidate.der);
        }
        for certificate in brought {
            // One that has no DER form completes no path either.
            part(&certificate.to_der().unwrap_or_default());
        }
        Self(sha.finish())
    }
}
