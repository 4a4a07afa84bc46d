//! What this partner may do with a submission that is good in itself: its sender, its id.

use std::sync::Arc;

use tracing::{error, info};

use super::{
    ToDirect,
    accept::Caller,
    answer::ReplyTo,
    refuse::{Stop, peer_fingerprint, refusal},
    resubmission::Earlier,
};
use crate::{
    bridge::{exchange::Reason, own_domain::OwnDomain},
    flows::measures,
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::DirectAddress,
        soap::{Fault, fault::Subcode},
        xdr::ErrorCode,
    },
};

impl ToDirect {
    /// The domain of the sender, who must be one that this partner may send as, in a domain that we serve (XDR-65,
    /// XDR-66).
    pub(super) fn domain_of(
        &self,
        caller: &Caller,
        from: &DirectAddress,
        reply: &ReplyTo,
    ) -> Result<Arc<OwnDomain>, Stop> {
        let unauthorised = || {
            let reason = Reason::SenderUnauthorised;
            error!(
                alarm = "sender_unauthorised",
                partner = caller.partner.name.as_str(),
                domain = %from.domain(),
                "a partner submitted as a sender that it may not send as, or whose domain is not served"
            );
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
        if !caller.partner.may_send_as(from) {
            return Err(unauthorised());
        }
        let own = self
            .own_domains
            .find(from.domain())
            .ok_or_else(unauthorised)?;
        if own.signers(from, self.clock.now()).is_empty() {
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
        Ok(own)
    }

    /// An id that another submission of this partner bore: a fault where the partner wants it, else a warning in the
    /// log (SOAP-69, XDR-50).
    pub(super) fn check_message_id(
        &self,
        caller: &Caller,
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
        if !(caller.partner.strict_message_id && earlier.message_id_was_used_otherwise) {
            return Ok(());
        }
        let fault = Fault::sender(
            "SOAP-69",
            "this wsa:MessageID was used before for another message",
        )
        .with_subcodes(&[
            Subcode::InvalidAddressingHeader,
            Subcode::DuplicateMessageId,
        ]);
        let audit = self
            .import(caller, AuditOutcome::Serious)
            .with("reason", "duplicateMessageId");
        Err(refusal(reply.fault(fault), audit))
    }
}
