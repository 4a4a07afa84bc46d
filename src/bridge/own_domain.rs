//! A domain that this bridge serves: its keys, whom it trusts, and what it tolerates.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;
use openssl::x509::X509;

use super::exchange::Reason;
use super::trust::{
    self, Binding, CertificateCandidate, Chosen, Demands, FetchedMaterial, Judgement, Purpose,
    Question, RecentJudgements, Refusal, Revocation, Terms, TrustAnchors, Wants,
};
use crate::formats::{
    ids::{DirectAddress, DomainName},
    smime::{
        Legacy, SigningIdentity,
        certificate::{self, Validity},
        policy::{KeyUse, check_key},
    },
};

/// A domain that this bridge serves.
#[derive(Clone, Debug)]
pub struct OwnDomain {
    /// Its name.
    pub name: DomainName,
    /// Every key of it, expired ones included: late mail is still opened with them (KEY-3).
    pub identities: Vec<SigningIdentity>,
    /// Whom it trusts. None at all: nobody (TA-2).
    pub anchors: TrustAnchors,
    /// Certificates that complete a path to an anchor (TA-7).
    pub intermediates: Vec<X509>,
    /// The weak algorithms that it takes from peers (SM-6).
    pub allow_legacy: Vec<Legacy>,
    /// Which certificates it must not use: those of its peers that are revoked.
    pub revocation: Revocation,
    /// What it demands of its peers' certificates beyond the rules that all follow.
    pub demands: Demands,
    /// What was fetched from the URLs in certificates, for all domains; `None`: nothing is fetched.
    pub fetched: Option<Arc<FetchedMaterial>>,
    /// What was judged lately under these anchors and revocation lists.
    pub judged: RecentJudgements,
}

impl OwnDomain {
    /// The keys that sign for `sender` at `now`: every usable one, those bound to the address before those bound to the
    /// domain (SND-4). Empty: nothing can be sent for this sender.
    pub fn signers(&self, sender: &DirectAddress, now: Timestamp) -> Vec<SigningIdentity> {
        let mut signers: Vec<(Binding, &SigningIdentity)> = self
            .identities
            .iter()
            .filter(|identity| can_sign(identity, now))
            .filter_map(|identity| Some((trust::binds(&identity.certificate, sender)?, identity)))
            .collect();
        // A stable sort: the configured order counts among equals.
        signers.sort_by_key(|(binding, _)| Reverse(*binding));
        signers
            .into_iter()
            .map(|(_, identity)| identity.clone())
            .collect()
    }
}

impl OwnDomain {
    /// Judges `candidates` for `address` by what this domain trusts; a judgement that stands from a moment ago is given
    /// again. `Err` says why none serves.
    pub fn judge(
        &self,
        candidates: &[CertificateCandidate],
        address: &DirectAddress,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Chosen, Refusal> {
        let nothing = || Refusal::from(Reason::NoCertificate);
        let judgement = self.examine(candidates, &[], address, purpose, now);
        let refusal = judgement.refusal;
        judgement
            .chosen
            .ok_or_else(|| refusal.unwrap_or_else(nothing))
    }

    /// The same where a message brought certificates that may complete a path, beside the domain's own, with what became of
    /// each candidate and what might be fetched. Of a judgement that stands from a moment ago only the chosen one is known:
    /// it has no verdicts.
    pub fn examine(
        &self,
        candidates: &[CertificateCandidate],
        brought: &[X509],
        address: &DirectAddress,
        purpose: Purpose,
        now: Timestamp,
    ) -> Judgement {
        if let Some(judgement) = self.recall(candidates, brought, address, purpose, now) {
            return judgement;
        }
        let intermediates: Vec<X509> = self.intermediates.iter().chain(brought).cloned().collect();
        let terms = self.terms(&intermediates);
        let judgement = trust::judge(candidates, address, purpose, &terms, now);
        if let Some(chosen) = &judgement.chosen {
            let question = Question::of(candidates, brought, address, purpose);
            let change = self.revocation.next_change(now);
            // What may soon be known better is judged anew then.
            if judgement.wants.is_empty() {
                self.judged.keep(question, now, change, chosen);
            }
        }
        judgement
    }

    /// The judgement that stands from a moment ago, if one does.
    pub fn recall(
        &self,
        candidates: &[CertificateCandidate],
        brought: &[X509],
        address: &DirectAddress,
        purpose: Purpose,
        now: Timestamp,
    ) -> Option<Judgement> {
        let question = Question::of(candidates, brought, address, purpose);
        let chosen = self.judged.find(question, now)?;
        Some(Judgement {
            chosen: Some(chosen),
            verdicts: Vec::new(),
            refusal: None,
            wants: Wants::default(),
        })
    }

    /// What it judges certificates by; `intermediates` complete the paths.
    pub fn terms<'a>(&'a self, intermediates: &'a [X509]) -> Terms<'a> {
        Terms {
            anchors: &self.anchors,
            intermediates,
            allow_legacy: &self.allow_legacy,
            revocation: Some(&self.revocation),
            demands: Some(&self.demands),
            fetched: self.fetched.as_deref(),
        }
    }
}

fn can_sign(identity: &SigningIdentity, now: Timestamp) -> bool {
    let certificate = &identity.certificate;
    certificate::validity(certificate, now) == Validity::Valid
        && certificate::key_usable_for_signing(certificate)
        && check_key(&*identity.key, KeyUse::Make, &[]).is_ok()
}
