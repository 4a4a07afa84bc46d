//! Prepare: what a trusted mail holds becomes ITI-41 requests, one for each endpoint and submission set, stored as they
//! will be posted.

use std::{io, sync::Arc};

use jiff::Timestamp;

use super::judge::OpenedMail;
use crate::{
    bridge::{
        endpoint::{SourcesConfig, XdrEndpoint, XdrEndpoints},
        exchange::{Leg, LegKind, LegState, PreparedRequest, Reason, XdrLeg},
        to_xdr::{Incoming, PlannedRequest, plan},
    },
    flows::{
        intake::store_error,
        ports::{Bodies, StagedBody, StoreError},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        finding::Finding,
        ids::{DirectAddress, ExchangeId, LegId},
        limits::Limits,
        mime::read::Mail,
        soap::Packaging,
        xdr::request::{write_mtom, write_simple},
    },
};

/// Everything that preparing needs.
pub(super) struct PrepareJob {
    pub(super) bodies: Arc<dyn Bodies>,
    pub(super) limits: Arc<Limits>,
    pub(super) endpoints: Arc<XdrEndpoints>,
    pub(super) sources: Arc<SourcesConfig>,
    pub(super) opened: OpenedMail,
    pub(super) recipients: Vec<DirectAddress>,
    pub(super) now: Timestamp,
}

/// What was prepared.
#[derive(Default)]
pub(super) struct Prepared {
    /// The legs, each with the recipients that it serves.
    pub(super) legs: Vec<(Leg, Vec<DirectAddress>)>,
    /// The recipients for whom nothing can be posted.
    pub(super) failed: Vec<(DirectAddress, Reason)>,
    /// The stored requests: adopted by the exchange, or gone when this is dropped.
    pub(super) bodies: Vec<StagedBody>,
    findings: Vec<Finding>,
}

impl Prepared {
    /// Nothing can be posted for these.
    pub(super) fn failed(failed: Vec<(DirectAddress, Reason)>) -> Self {
        Self {
            failed,
            ..Self::default()
        }
    }

    /// What the audit keeps: the rules that were broken or leniently read, without a received value.
    pub(super) fn audit(&self, at: Timestamp, exchange: ExchangeId) -> Vec<AuditRecord> {
        if self.findings.is_empty() {
            return Vec::new();
        }
        let mut rules: Vec<&str> = self.findings.iter().map(|found| found.rule).collect();
        rules.dedup();
        let outcome = if self.findings.iter().any(Finding::is_error) {
            AuditOutcome::Serious
        } else {
            AuditOutcome::Minor
        };
        let record = AuditRecord::new(at, AuditKind::Iti32Import, outcome);
        vec![record.of(exchange).with("findings", rules.join(" "))]
    }

    fn fail(&mut self, recipients: &[DirectAddress], reason: Reason) {
        let failed = recipients.iter().map(|address| (address.clone(), reason));
        self.failed.extend(failed);
    }
}

impl PrepareJob {
    /// An error of the store: another attempt may succeed.
    pub(super) fn run(self) -> Result<Prepared, StoreError> {
        let everybody = |reason| {
            let recipients = self.recipients.iter();
            recipients
                .map(|address| (address.clone(), reason))
                .collect()
        };
        let unreadable = || Ok(Prepared::failed(everybody(Reason::ConversionFailed)));
        let Ok(message) = self.opened.message(&self.limits) else {
            return unreadable();
        };
        let Ok(mail) = message.read(&self.limits) else {
            return unreadable();
        };
        let mut prepared = Prepared::default();
        for (endpoint, recipients) in self.endpoints.group(self.recipients.iter().cloned()) {
            match endpoint {
                Some(endpoint) => self.for_endpoint(&mail, endpoint, recipients, &mut prepared)?,
                None => prepared.fail(&recipients, Reason::UnknownRecipient),
            }
        }
        Ok(prepared)
    }

    fn for_endpoint(
        &self,
        mail: &Mail<'_>,
        endpoint: &XdrEndpoint,
        recipients: Vec<DirectAddress>,
        prepared: &mut Prepared,
    ) -> Result<(), StoreError> {
        let from = &self.opened.trusted.sender;
        let Some(source_id) = self.sources.source_id(from.domain()) else {
            prepared.fail(&recipients, Reason::Internal);
            return Ok(());
        };
        let plan = plan(&Incoming {
            mail,
            from,
            recipients: &recipients,
            endpoint: &endpoint.name,
            policy: &endpoint.policy,
            source_id: &source_id,
            received_at: self.now,
            digest: &self.opened.digest,
            limits: &self.limits,
        });
        prepared.findings.extend(plan.findings);
        if let Some(reason) = plan.failure {
            prepared.fail(&recipients, reason);
            return Ok(());
        }
        for request in plan.requests {
            let (stored, body) = self.store(mail, endpoint, &request)?;
            prepared.bodies.push(body);
            let leg = Leg {
                id: LegId::random(),
                kind: LegKind::Xdr(XdrLeg {
                    soap_message_id: request.message_id.clone(),
                    request: stored,
                    endpoint: endpoint.name.clone(),
                    idempotent: endpoint.idempotent,
                    final_by_disposition: endpoint.final_by_disposition,
                    state: LegState::Received,
                    answer_lost: false,
                    reason: None,
                    error_code: None,
                    answers: Vec::new(),
                }),
            };
            prepared.legs.push((leg, recipients.clone()));
        }
        Ok(())
    }

    /// Writes the request into the store, as it will be posted.
    fn store(
        &self,
        mail: &Mail<'_>,
        endpoint: &XdrEndpoint,
        planned: &PlannedRequest,
    ) -> Result<(PreparedRequest, StagedBody), StoreError> {
        let request = planned.request(&endpoint.url, endpoint.action);
        let mut documents = planned.documents(mail, &self.limits);
        let mut writer = self.bodies.create_encrypted()?;
        let out: &mut dyn io::Write = &mut writer;
        match endpoint.packaging {
            Packaging::Mtom => write_mtom(&request, &mut *documents, out),
            _ => write_simple(&request, &mut *documents, out),
        }
        .map_err(store_error)?;
        let content_type = request.content_type(endpoint.packaging);
        let staged = writer.finish()?;
        let stored = PreparedRequest {
            body: staged.id,
            content_type,
            wire_bytes: staged.size,
        };
        Ok((stored, staged))
    }
}
