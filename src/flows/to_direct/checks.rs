//! What a submission must be before its recipients are looked at: its sender, its addressees, its size, its id.

use std::sync::Arc;

use tracing::{error, info};

use super::{
    ToDirect,
    accept::Caller,
    answer::{self, ReplyTo},
    refuse::{Stop, peer_fingerprint, refusal},
    resubmission::Earlier,
    understand::Understood,
};
use crate::{
    bridge::{
        exchange::Reason,
        own_domain::OwnDomain,
        routing::{self, Recipients},
        to_direct,
    },
    flows::measures,
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        finding::Finding,
        ids::DirectAddress,
        metadata::SubmissionSet,
        soap::{Fault, fault::Subcode},
        xdr::ErrorCode,
    },
};

impl ToDirect {
    /// The sender, who must be one that this partner may send as, in a domain that we serve (XDR-65, XDR-66).
    pub(super) fn sender(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
    ) -> Result<(DirectAddress, Arc<OwnDomain>), Stop> {
        let block = understood.request.address_block.as_ref();
        let set = self.submission_set(caller, understood, reply)?;
        let from = routing::sender(block.map(|block| &block.from), set)
            .map_err(|finding| self.refuse_for(caller, understood, reply, &[finding]))?;
        let unauthorised = || {
            let reason = Reason::SenderUnauthorised;
            measures::count_alarm("sender_unauthorised");
            let audit = AuditRecord::new(
                self.clock.now(),
                AuditKind::SecurityAlert,
                AuditOutcome::Serious,
            )
            .with("partner", &caller.partner.name)
            .with("peer", &caller.peer.address)
            .with("certificate", peer_fingerprint(&caller.peer))
            .with("source", from.to_string())
            .with("reason", reason.token());
            refusal(
                reply.refuse(ErrorCode::XdsRepositoryError, reason.context()),
                audit,
            )
        };
        if !caller.partner.may_send_as(&from) {
            return Err(unauthorised());
        }
        let own = self
            .own_domains
            .find(from.domain())
            .ok_or_else(unauthorised)?;
        if own.signers(&from, self.clock.now()).is_empty() {
            error!(alarm = "no_signing_key", domain = %from.domain(), "no usable signing key for the domain {}", from.domain());
            measures::count_alarm("no_signing_key");
            let reason = Reason::Internal;
            let audit = self
                .import(caller, AuditOutcome::Serious)
                .with("reason", "no signing key");
            return Err(refusal(
                reply.refuse(ErrorCode::XdsRepositoryError, reason.context()),
                audit,
            ));
        }
        Ok((from, own))
    }

    /// The one SubmissionSet. Validation has refused a message without one by now.
    pub(super) fn submission_set<'a>(
        &self,
        caller: &Caller,
        understood: &'a Understood,
        reply: &ReplyTo,
    ) -> Result<&'a SubmissionSet, Stop> {
        understood.metadata.submission_set().ok_or_else(|| {
            let code = ErrorCode::XdsRepositoryMetadataError;
            let text = "exactly one SubmissionSet is needed";
            let finding = Finding::error("MD-80", code, "SubmissionSet", text);
            self.refuse_for(caller, understood, reply, &[finding])
        })
    }

    pub(super) fn recipients(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
    ) -> Result<Recipients, Stop> {
        let block = understood.request.address_block.as_ref();
        let to = block.map_or(&[][..], |block| &block.to);
        let set = self.submission_set(caller, understood, reply)?;
        routing::recipients(to, set, &self.routes, self.limits.max_recipients)
            .map_err(|findings| self.refuse_for(caller, understood, reply, &findings))
    }

    /// A delivery notification is about an earlier message of ours and never goes out as mail (XDR-125). Nothing is sent
    /// to XDR endpoints yet, so there is none that it could be about.
    pub(super) fn check_notification(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
    ) -> Result<(), Stop> {
        if understood.request.notification_relates_to.is_none() {
            return Ok(());
        }
        let audit = self
            .import_of(caller, understood, AuditOutcome::Serious)
            .with("reason", "relatesTo unknown");
        Err(refusal(
            reply.refuse(ErrorCode::XdsRepositoryError, "relatesTo unknown"),
            audit,
        ))
    }

    /// Refuses what would not fit into one mail (LIM-14).
    pub(super) fn check_size(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
        recipients: usize,
    ) -> Result<(), Stop> {
        let sizes: Vec<u64> = understood
            .documents
            .iter()
            .map(|document| document.size)
            .collect();
        let metadata_bytes = understood.metadata.xml().as_str().len() as u64;
        let wire_bytes = to_direct::estimate_wire_bytes(
            self.settings.packaging,
            metadata_bytes,
            &sizes,
            recipients,
        );
        if wire_bytes > self.limits.max_sealed_bytes {
            let text = format!(
                "the mail would have some {wire_bytes} octets; {} are the most",
                self.limits.max_sealed_bytes
            );
            let audit = self
                .import(caller, AuditOutcome::Serious)
                .with("reason", "tooLarge");
            let code = ErrorCode::XdsRepositoryOutOfResources;
            return Err(refusal(reply.refuse(code, text), audit));
        }
        Ok(())
    }

    /// An id that another submission of this partner bore: a fault where the partner wants it, else a warning in the
    /// log (SOAP-69, XDR-50).
    pub(super) fn check_message_id(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
        earlier: &Earlier,
    ) -> Result<(), Stop> {
        if !earlier.id_was_used_otherwise {
            return Ok(());
        }
        info!(
            finding = "duplicateMessageId",
            rule = "XDR-50",
            partner = caller.partner.name.as_str(),
            "an id was used before for another submission"
        );
        if !caller.partner.strict_message_id {
            return Ok(());
        }
        let mut fault = Fault::sender(
            "SOAP-69",
            "this wsa:MessageID was used before for another message",
        )
        .with_subcodes(&[
            Subcode::InvalidAddressingHeader,
            Subcode::DuplicateMessageId,
        ]);
        fault.packaging = reply.packaging;
        fault.relates_to = understood.request.addressing.message_id.clone();
        let audit = self
            .import(caller, AuditOutcome::Serious)
            .with("reason", "duplicateMessageId");
        Err(refusal(answer::fault_answer(&fault), audit))
    }
}
