//! How accept ends early: the answer, and what the audit learns of it.

use std::collections::HashMap;

use tracing::{error, info};

use super::{
    ToDirect,
    accept::Caller,
    answer::{self, ReplyTo},
    record::{Decided, refusals},
    understand::Understood,
};
use crate::{
    flows::{
        measures,
        ports::{StoreError, TlsPeer, UnitOfWork, XdrAnswer},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        finding::{Finding, Severity},
        ids::DirectAddress,
        xdr::ErrorCode,
    },
};

/// A refusal that ends accept: the answer, and what the audit learns of it.
pub(super) struct Refusal {
    pub(super) answer: XdrAnswer,
    pub(super) audit: AuditRecord,
}

/// Ends accept early: with a refusal, because it was no request, or because the store failed.
pub(super) enum Stop {
    Refused(Box<Refusal>),
    Answered(XdrAnswer),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl ToDirect {
    pub(super) fn refuse_for(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
        findings: &[Finding],
    ) -> Stop {
        let rules: Vec<&str> = findings
            .iter()
            .filter(|finding| finding.is_error())
            .map(|finding| finding.rule)
            .collect();
        info!(
            partner = caller.partner.name.as_str(),
            rules = rules.join(" "),
            "refused a submission of partner {}: {}",
            caller.partner.name,
            rules.join(" ")
        );
        let audit = self
            .import_of(caller, understood, AuditOutcome::Serious)
            .with("rules", rules.join(" "));
        refusal(reply.respond(answer::errors_of(findings)), audit)
    }

    pub(super) fn refuse_recipients(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
        from: &DirectAddress,
        decided: &[Decided],
    ) -> Stop {
        let mut errors = answer::errors_of(&understood.findings);
        errors.extend(refusals(decided, Severity::Error));
        let mut tokens = HashMap::<&str, usize>::new();
        for reason in decided.iter().filter_map(Decided::refusal) {
            *tokens.entry(reason.token()).or_default() += 1;
        }
        info!(partner = caller.partner.name.as_str(), reasons = ?tokens, "refused a submission of partner {}: its recipients cannot be served", caller.partner.name);
        let audit = self
            .import_of(caller, understood, AuditOutcome::Serious)
            .with("source", from.to_string())
            .with("reasons", format!("{tokens:?}"));
        refusal(reply.respond(errors), audit)
    }

    /// Writes the audit record of a refusal, then gives its answer. Nothing else is stored.
    pub(super) async fn refused(&self, refusal: Refusal) -> XdrAnswer {
        metrics::counter!(measures::SUBMISSIONS, "result" => "refused").increment(1);
        let unit = UnitOfWork {
            audit: vec![refusal.audit],
            ..UnitOfWork::default()
        };
        match self.store.commit(unit).await {
            Ok(()) => refusal.answer,
            Err(failure) => cannot_store(&failure),
        }
    }

    /// The ITI-41 Import record, as far as the connection tells (audit.md section 7).
    pub(super) fn import(&self, caller: &Caller, outcome: AuditOutcome) -> AuditRecord {
        AuditRecord::new(self.clock.now(), AuditKind::Iti41Import, outcome)
            .with("partner", &caller.partner.name)
            .with("peer", &caller.peer.address)
            .with("certificate", peer_fingerprint(&caller.peer))
    }

    /// The ITI-41 Import record of a request that was understood.
    pub(super) fn import_of(
        &self,
        caller: &Caller,
        understood: &Understood,
        outcome: AuditOutcome,
    ) -> AuditRecord {
        let mut record = self
            .import(caller, outcome)
            .with("submission-set", unique_id(understood));
        if let Some(id) = &understood.reading.request.addressing.message_id {
            record = record.with("message-id", id.as_str());
        }
        if let Some(block) = &understood.reading.request.address_block {
            let to: Vec<String> = block.to.iter().map(ToString::to_string).collect();
            record = record
                .with("source", block.from.to_string())
                .with("destinations", to.join(" "));
        }
        let patient_id = understood
            .reading
            .metadata
            .submission_set()
            .and_then(|set| set.patient_id.as_deref());
        match patient_id.and_then(|id| self.patient_ids.kept(id, &self.patient_id_key)) {
            Some(id) => record.with("patient-id", id),
            None => record,
        }
    }
}

pub(super) fn refusal(answer: XdrAnswer, audit: AuditRecord) -> Stop {
    Stop::Refused(Box::new(Refusal { answer, audit }))
}

/// Nothing could be recorded, so nothing is promised.
pub(super) fn cannot_store(failure: &StoreError) -> XdrAnswer {
    store_alarm(failure);
    answer::busy()
}

/// As [`cannot_store`], for a request that was understood.
pub(super) fn not_recorded(reply: &ReplyTo, failure: &StoreError) -> XdrAnswer {
    store_alarm(failure);
    match failure {
        // A sender that wants no answer must not take 202 for a promise: the transport tells it to come again.
        _ if reply.is_unwanted => answer::busy(),
        StoreError::NoSpace => reply.refuse(
            ErrorCode::XdsRepositoryOutOfResources,
            "no space is left; try again later",
        ),
        _ => reply.refuse(
            ErrorCode::XdsRepositoryBusy,
            "nothing could be recorded; try again later",
        ),
    }
}

pub(super) fn store_alarm(failure: &StoreError) {
    error!(
        alarm = "store",
        error = failure as &dyn std::error::Error,
        "a submission could not be recorded"
    );
    measures::count_alarm("store");
}

pub(super) fn peer_fingerprint(peer: &TlsPeer) -> String {
    peer.certificate
        .map_or_else(String::new, |fingerprint| fingerprint.to_string())
}

pub(super) fn unique_id(understood: &Understood) -> &str {
    understood
        .reading
        .metadata
        .submission_set()
        .and_then(|set| set.unique_id.as_deref())
        .unwrap_or("")
}
