//! Where certificates are looked for: one source after the other, each judged before the next is asked (DISC-1).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::error;

use super::{
    cpu::{CpuPool, JobPanicked, Urgency},
    material::{Errand, Material},
    measures,
    ports::{CertificateCandidate, Clock, FindCertificates},
};
use crate::{
    bridge::{
        discovery::Search,
        own_domain::OwnDomain,
        trust::{Judgement, Purpose, Wants},
    },
    formats::ids::DirectAddress,
};

/// The sources, in the order in which they are asked.
#[derive(Clone)]
pub struct Directory {
    sources: Arc<[Arc<dyn FindCertificates>]>,
    cpu: CpuPool,
    clock: Arc<dyn Clock>,
    /// `None`: nothing is fetched.
    material: Option<Material>,
}

impl Directory {
    /// Asks `sources` in this order, and judges on the threads of `cpu`.
    pub fn new(
        sources: Vec<Arc<dyn FindCertificates>>,
        cpu: CpuPool,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            sources: sources.into(),
            cpu,
            clock,
            material: None,
        }
    }

    /// The same, fetching what judgements lack: issuers' certificates, revocation lists.
    #[must_use]
    pub fn fetching(mut self, material: Material) -> Self {
        self.material = Some(material);
        self
    }

    /// Fetches what is wanted. True: what was judged should be judged anew.
    pub(in crate::flows) async fn fetch(&self, wants: &Wants, errand: &mut Errand) -> bool {
        match &self.material {
            Some(material) => material.get(wants, errand).await,
            None => false,
        }
    }

    /// Looks for a certificate that may be used to encrypt to `address` by what `own` trusts, for at most `limit`.
    pub async fn search(
        &self,
        address: &DirectAddress,
        own: &Arc<OwnDomain>,
        limit: Duration,
        urgency: Urgency,
    ) -> Search {
        let end = Instant::now() + limit;
        let mut search = Search::default();
        for source in self.sources.iter() {
            let begun = Instant::now();
            let Ok(mut lookup) = tokio::time::timeout_at(end, source.find(address)).await else {
                search.end_without_answer(&source.question(address), begun.elapsed());
                break;
            };
            let mut errand = Errand::until(end);
            let judging = self.judge_until(&mut errand, address, &lookup.candidates, own, urgency);
            match judging.await {
                Ok(judgement) => {
                    lookup.steps.extend(errand.into_steps());
                    search.take(lookup, judgement);
                }
                Err(panicked) => {
                    error!(
                        alarm = "panic",
                        domain = %address.domain(),
                        error = &panicked as &dyn std::error::Error,
                        "judging the certificates of an address in {} panicked", address.domain()
                    );
                    measures::count_alarm("panic");
                    search.fail();
                }
            }
            if search.is_over() {
                break;
            }
        }
        let result = match search.outcome() {
            Ok(_) => "found",
            Err(not_found) if not_found.may_pass() => "pending",
            Err(not_found) => not_found.reason.token(),
        };
        metrics::counter!(measures::CERTIFICATE_SEARCHES, "result" => result).increment(1);
        search
    }

    /// Judges `candidates`, on a thread for such work unless the same was judged a moment ago. What is lacking is fetched,
    /// for at most `limit`.
    pub async fn judge(
        &self,
        address: &DirectAddress,
        candidates: &[CertificateCandidate],
        own: &Arc<OwnDomain>,
        limit: Duration,
        urgency: Urgency,
    ) -> Result<Judgement, JobPanicked> {
        let mut errand = Errand::until(Instant::now() + limit);
        self.judge_until(&mut errand, address, candidates, own, urgency)
            .await
    }

    async fn judge_until(
        &self,
        errand: &mut Errand,
        address: &DirectAddress,
        candidates: &[CertificateCandidate],
        own: &Arc<OwnDomain>,
        urgency: Urgency,
    ) -> Result<Judgement, JobPanicked> {
        loop {
            let judgement = self.judge_now(address, candidates, own, urgency).await?;
            if judgement.wants.is_empty() || !self.fetch(&judgement.wants, errand).await {
                return Ok(judgement);
            }
        }
    }

    async fn judge_now(
        &self,
        address: &DirectAddress,
        candidates: &[CertificateCandidate],
        own: &Arc<OwnDomain>,
        urgency: Urgency,
    ) -> Result<Judgement, JobPanicked> {
        let now = self.clock.now();
        if candidates.is_empty() {
            return Ok(Judgement::of_nothing());
        }
        if let Some(judgement) = own.recall(candidates, &[], address, Purpose::Encrypt, now) {
            return Ok(judgement);
        }
        let (address, candidates, own) = (address.clone(), candidates.to_vec(), Arc::clone(own));
        let judging = self.cpu.run(urgency, move || {
            own.examine(&candidates, &[], &address, Purpose::Encrypt, now)
        });
        judging.await
    }
}
