//! Which certificate a recipient is served with, if any: looked up within a time, judged against the anchors of the
//! sender's domain.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::ToDirect;
use crate::{
    bridge::{
        exchange::Reason,
        own_domain::OwnDomain,
        trust::{CertificateCandidate, Chosen, Doubt, Purpose, Question, Refusal},
    },
    flows::{cpu::Urgency, records::alarm_revocation_unknown},
    formats::ids::{CertificateFingerprint, DirectAddress},
};

/// What is known of a recipient when its look-up ends.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// This certificate serves.
    Found {
        /// Its DER form.
        certificate: Vec<u8>,
        /// Where it was found, for the audit.
        origin: String,
        /// What the revocation lists do not tell of it.
        doubt: Option<Doubt>,
    },
    /// None serves, and that is sure.
    Refused(Reason),
    /// None was found in time, a source could not be asked, or a revocation list is missing: not sure yet.
    Pending(Reason),
}

impl ToDirect {
    /// Looks for certificates of `address` for at most `limit`, and judges them.
    pub(super) async fn decide(
        &self,
        address: &DirectAddress,
        own: &Arc<OwnDomain>,
        limit: Duration,
    ) -> Decision {
        let Ok(lookup) = tokio::time::timeout(limit, self.certificates.find(address)).await else {
            return Decision::Pending(Reason::NoCertificate);
        };
        let is_transient = lookup.is_transient;
        let judgement = self
            .judge(address, lookup.candidates, own, self.clock.now())
            .await;
        match judgement {
            Ok((found, chosen)) => Decision::Found {
                certificate: found.der,
                origin: found.origin,
                doubt: chosen.doubt,
            },
            // A revoked or untrusted certificate says more than a source that did not answer, but a source that did
            // not answer may still hold a better one.
            Err(refusal) if is_transient || refusal.is_temporary => {
                if refusal.is_temporary {
                    alarm_revocation_unknown(&own.name);
                }
                Decision::Pending(refusal.reason)
            }
            Err(refusal) => Decision::Refused(refusal.reason),
        }
    }

    /// Judges the certificate that was found at accept once more.
    pub(super) async fn judge_stored(
        &self,
        address: &DirectAddress,
        der: Vec<u8>,
        own: &Arc<OwnDomain>,
        now: Timestamp,
    ) -> Result<Chosen, Refusal> {
        let candidate = CertificateCandidate {
            der,
            origin: "accept".to_owned(),
        };
        let (_, chosen) = self.judge(address, vec![candidate], own, now).await?;
        Ok(chosen)
    }

    /// The candidate that serves, and what was decided about it.
    async fn judge(
        &self,
        address: &DirectAddress,
        candidates: Vec<CertificateCandidate>,
        own: &Arc<OwnDomain>,
        now: Timestamp,
    ) -> Result<(CertificateCandidate, Chosen), Refusal> {
        let question = Question::of(&candidates, &[], address, Purpose::Encrypt);
        let chosen = match own.judged.find(question, now) {
            // Known from a moment ago: no thread needs to be asked.
            Some(chosen) => Ok((candidates, chosen)),
            None => {
                let (address, own) = (address.clone(), Arc::clone(own));
                let judging = self.cpu.run(Urgency::PeerWaits, move || {
                    let chosen = own.judge(&candidates, &address, Purpose::Encrypt, now)?;
                    Ok((candidates, chosen))
                });
                judging
                    .await
                    .unwrap_or_else(|_| Err(Refusal::from(Reason::Internal)))
            }
        };
        let (candidates, chosen): (Vec<CertificateCandidate>, Chosen) = chosen?;
        let candidate = candidates.into_iter().nth(chosen.index);
        Ok((candidate.ok_or(Reason::Internal)?, chosen))
    }
}

/// The fingerprint of a certificate in DER form, for the audit.
pub(super) fn fingerprint(der: &[u8]) -> String {
    CertificateFingerprint::of_der(der).to_string()
}
