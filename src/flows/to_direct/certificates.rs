//! Which certificate a recipient is served with, if any: looked up within a time, judged against the anchors of the
//! sender's domain.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::ToDirect;
use crate::{
    bridge::{
        exchange::Reason,
        own_domain::OwnDomain,
        trust::{CertificateCandidate, Chosen, Doubt, Refusal},
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
    /// None serves, and that is sure. Of a certificate that was found, the check that it failed, for the audit.
    Refused(Reason, Option<String>),
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
        let urgency = Urgency::PeerWaits;
        let begun = Instant::now();
        let search = self.directory.search(address, own, limit, urgency).await;
        let (took, now) = (begun.elapsed(), self.clock.now());
        self.look_ups.tell(address.domain(), &search, took, now);
        match search.outcome() {
            Ok(found) => Decision::Found {
                certificate: found.candidate.der.clone(),
                origin: found.candidate.origin.clone(),
                doubt: found.chosen.doubt,
            },
            // A revoked or untrusted certificate says more than a source that did not answer, but a source that did
            // not answer may still hold a better one.
            Err(not_found) if not_found.may_pass() => {
                if not_found.waits_for_revocation {
                    alarm_revocation_unknown(&own.name);
                }
                Decision::Pending(not_found.reason)
            }
            Err(not_found) => {
                let deciding = search.deciding();
                let cause = deciding.map(|(_, fault)| format!("{}: {fault}", fault.check().word()));
                Decision::Refused(not_found.reason, cause)
            }
        }
    }

    /// Judges the certificate that was found at accept once more.
    pub(super) async fn judge_stored(
        &self,
        address: &DirectAddress,
        der: Vec<u8>,
        own: &Arc<OwnDomain>,
    ) -> Result<Chosen, Refusal> {
        let candidate = CertificateCandidate {
            der,
            origin: "accept".to_owned(),
        };
        let (stored, urgency) = ([candidate], Urgency::PeerWaits);
        let limit = self.settings.background_lookup;
        let judging = self.directory.judge(address, &stored, own, limit, urgency);
        let judgement = judging.await.map_err(|_| Refusal::from(Reason::Internal))?;
        let nothing = || Refusal::from(Reason::NoCertificate);
        judgement
            .chosen
            .ok_or_else(|| judgement.refusal.unwrap_or_else(nothing))
    }
}

/// The fingerprint of a certificate in DER form, for the audit.
pub(super) fn fingerprint(der: &[u8]) -> String {
    CertificateFingerprint::of_der(der).to_string()
}
