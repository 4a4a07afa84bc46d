//! What `explain` tells, as scripts get it; the text for people says the same.

use std::sync::Arc;

use jiff::Timestamp;
use openssl::x509::X509;
use serde::Serialize;

use crate::{
    bridge::{
        discovery::{Asked, Examined, Found, NotFound, Search},
        own_domain::OwnDomain,
        trust::Binding,
    },
    formats::{
        ids::{CertificateFingerprint, DirectAddress, DomainName},
        smime::facts::CertificateFacts,
    },
};

/// Why which certificate serves an address.
#[derive(Debug, Serialize)]
pub(super) struct ExplainView {
    pub(super) address: DirectAddress,
    /// When.
    pub(super) at: Timestamp,
    /// For mail from each of our domains.
    pub(super) senders: Vec<SenderView>,
}

/// The search for mail from one of our domains, whose anchors decide.
#[derive(Debug, Serialize)]
pub(super) struct SenderView {
    pub(super) domain: DomainName,
    /// The sources, in the order in which they were asked.
    pub(super) asked: Vec<AskedView>,
    pub(super) chosen: Option<ChosenView>,
    pub(super) refusal: Option<RefusalView>,
}

#[derive(Debug, Serialize)]
pub(super) struct AskedView {
    pub(super) steps: Vec<StepView>,
    /// Whether it may know more than it said.
    pub(super) is_transient: bool,
    pub(super) certificates: Vec<CertificateView>,
}

#[derive(Debug, Serialize)]
pub(super) struct StepView {
    pub(super) question: String,
    pub(super) answer: String,
    pub(super) took_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct CertificateView {
    /// Where it was found.
    pub(super) origin: String,
    /// SHA-256 over what was found there, certificate or not.
    pub(super) sha256: String,
    /// How many octets that were.
    pub(super) octets: usize,
    /// What it says of itself; null for what is no certificate.
    pub(super) facts: Option<CertificateFacts>,
    pub(super) binding: Option<&'static str>,
    /// The checks that it passed, in their order.
    pub(super) passed: Vec<&'static str>,
    /// The one that it did not; those after it were not made.
    pub(super) failed: Option<FailedView>,
    pub(super) is_chosen: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct FailedView {
    pub(super) check: &'static str,
    pub(super) reason: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ChosenView {
    pub(super) sha256: String,
    pub(super) origin: String,
    pub(super) binding: &'static str,
    /// From the certificate to the anchor.
    pub(super) path: Vec<PathView>,
    /// What revocation lists do not tell of the path, though it is used (REV-4).
    pub(super) revocation_doubt: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct PathView {
    pub(super) sha256: String,
    pub(super) subject: String,
}

#[derive(Debug, Serialize)]
pub(super) struct RefusalView {
    /// The token of mdn.md table RT.
    pub(super) reason: &'static str,
    pub(super) sentence: &'static str,
    /// Whether the recipient would wait and be looked up again.
    pub(super) may_pass: bool,
    /// What decided: the first certificate that falls under that token, and the check that it failed.
    pub(super) decided_by: String,
}

impl ExplainView {
    pub(super) fn of(
        address: &DirectAddress,
        at: Timestamp,
        searches: &[(Arc<OwnDomain>, Search)],
    ) -> Self {
        Self {
            address: address.clone(),
            at,
            senders: searches.iter().map(sender).collect(),
        }
    }
}

fn sender((own, search): &(Arc<OwnDomain>, Search)) -> SenderView {
    let (chosen, refusal) = match search.outcome() {
        Ok(found) => (Some(chosen(found)), None),
        Err(not_found) => (None, Some(refusal(search, not_found))),
    };
    SenderView {
        domain: own.name.clone(),
        asked: search.asked().iter().map(asked).collect(),
        chosen,
        refusal,
    }
}

fn asked(asked: &Asked) -> AskedView {
    let steps = asked.steps.iter().map(|step| StepView {
        question: step.question.clone(),
        answer: step.answer.clone(),
        took_ms: u64::try_from(step.took.as_millis()).unwrap_or(u64::MAX),
    });
    AskedView {
        steps: steps.collect(),
        is_transient: asked.is_transient,
        certificates: asked.examined.iter().map(certificate).collect(),
    }
}

fn certificate(examined: &Examined) -> CertificateView {
    let der = &examined.candidate.der;
    let verdict = examined.verdict.as_ref();
    let fault = verdict.and_then(|verdict| verdict.fault.as_ref());
    let passed = verdict.into_iter().flat_map(|verdict| verdict.passed());
    CertificateView {
        origin: examined.candidate.origin.clone(),
        sha256: fingerprint(der),
        octets: der.len(),
        facts: CertificateFacts::of_der(der),
        binding: verdict.and_then(|verdict| verdict.binding).map(word),
        passed: passed.map(|check| check.word()).collect(),
        failed: fault.map(|fault| FailedView {
            check: fault.check().word(),
            reason: fault.to_string(),
        }),
        is_chosen: examined.is_chosen,
    }
}

fn chosen(found: &Found) -> ChosenView {
    ChosenView {
        sha256: fingerprint(&found.candidate.der),
        origin: found.candidate.origin.clone(),
        binding: word(found.chosen.binding),
        path: found.chosen.path.iter().map(on_path).collect(),
        revocation_doubt: found.chosen.doubt.map(|doubt| doubt.word()),
    }
}

fn on_path(certificate: &X509) -> PathView {
    let facts = CertificateFacts::of(certificate);
    PathView {
        sha256: facts.sha256,
        subject: facts.subject,
    }
}

fn refusal(search: &Search, not_found: NotFound) -> RefusalView {
    let decided_by = match search.deciding() {
        Some((examined, fault)) => format!(
            "{} {}: {}: {fault}",
            examined.candidate.origin,
            fingerprint(&examined.candidate.der),
            fault.check().word()
        ),
        None if not_found.is_transient => "a source did not answer".to_owned(),
        None => "no source has a certificate".to_owned(),
    };
    RefusalView {
        reason: not_found.reason.token(),
        sentence: not_found.reason.sentence(),
        may_pass: not_found.may_pass(),
        decided_by,
    }
}

fn word(binding: Binding) -> &'static str {
    match binding {
        Binding::Address => "address",
        Binding::Domain => "domain",
    }
}

fn fingerprint(der: &[u8]) -> String {
    CertificateFingerprint::of_der(der).to_string()
}
