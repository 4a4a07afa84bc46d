//! What comes to the listener and is no submission: an endpoint says later what became of a request of ours (XDR-125,
//! SOAP-130).

use tracing::info;

use super::{
    ToDirect,
    accept::Caller,
    answer::{self, ReplyTo},
    refuse::Stop,
    understand::{Notification, Understood},
};
use crate::{
    bridge::judge::STRAY_NOTIFICATION,
    flows::{edge_reports::Reported, ports::XdrAnswer},
    formats::{
        finding::{self, Finding},
        xdr::response::ReceivedAnswer,
    },
};

impl ToDirect {
    /// Takes a delivery notification: Success if it is about a message that went to this partner, else a refusal, as is
    /// one whose metadata is not in order.
    pub(super) async fn take_notification(
        &self,
        caller: &Caller,
        understood: &Understood,
        notification: &Notification,
        reply: &ReplyTo,
    ) -> Result<XdrAnswer, Stop> {
        let is_other = |finding: &&Finding| finding.rule != STRAY_NOTIFICATION;
        let others = understood.findings.iter().filter(is_other).cloned();
        let others: Vec<Finding> = others.collect();
        if finding::refuses(&others) {
            return Err(self.refuse_for(caller, understood, reply, &others));
        }
        let partner = caller.partner.name.as_str();
        let reported = match (&notification.relates_to, &notification.disposition) {
            (Some(relates_to), Some(disposition)) => {
                self.edges
                    .disposition(partner, relates_to, disposition)
                    .await?
            }
            _ => Reported::Unknown,
        };
        match reported {
            Reported::Known => {
                info!(partner, "partner {partner} reported on a request of ours");
                Ok(reply.respond(answer::errors_of(&others)))
            }
            Reported::Unknown => {
                Err(self.refuse_for(caller, understood, reply, &understood.findings))
            }
        }
    }

    /// Takes an answer that was posted in place of a request. `None` if nothing of this partner's can be answered so.
    pub(super) async fn take_answer(
        &self,
        caller: &Caller,
        received: &ReceivedAnswer,
    ) -> Result<Option<XdrAnswer>, Stop> {
        let partner = caller.partner.name.as_str();
        let addressing = received.addressing.as_ref();
        let relates_to = addressing.and_then(|addressing| addressing.relates_to.as_deref());
        let Some(relates_to) = relates_to.filter(|_| self.edges.is_speaker(partner)) else {
            return Ok(None);
        };
        let answer = &received.answer;
        // Whether it was known is told to nobody (SOAP-131).
        self.edges.response(partner, relates_to, answer).await?;
        Ok(Some(answer::taken()))
    }
}
