//! Accept: record, understand, decide every recipient, commit, and only then answer Success.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use tracing::{error, info};

use super::{
    ToDirect,
    answer::{self, ReplyTo},
    certificates::Decision,
    record::{Decided, lookup_keys, refusals},
    refuse::{Stop, cannot_store, not_recorded, refusal},
    resubmission::Earlier,
    understand::{self, NotUnderstood, Understood},
};
use crate::{
    bridge::{
        exchange::Reason,
        judge::Terms,
        own_domain::OwnDomain,
        partner::{Partial, Partner},
        routing::Recipients,
    },
    flows::{
        cpu::Urgency,
        fault_points,
        intake::{self, IntakeError, store_error},
        measures,
        ports::{ServeXdr, StoreError, TlsPeer, XdrAnswer, XdrRequest},
    },
    formats::{
        audit::{AuditOutcome, AuditRecord},
        finding::{self, Finding, Severity},
        ids::DirectAddress,
        soap::{Fault, Packaging},
        xdr::request::ReadError,
    },
};

/// Who asks.
pub(super) struct Caller {
    pub(super) partner: Arc<Partner>,
    pub(super) peer: TlsPeer,
    pub(super) content_type: String,
}

/// How often a submission is decided anew because another node recorded the same meanwhile. The second time finds that
/// one; more would need a failed recipient that every node serves again at once.
const MAX_OVERTAKEN: u32 = 8;

/// Whom a submission is from.
struct Sender {
    from: DirectAddress,
    own: Arc<OwnDomain>,
}

#[async_trait]
impl ServeXdr for ToDirect {
    async fn serve(&self, request: XdrRequest) -> XdrAnswer {
        let caller = Caller {
            partner: request.partner,
            peer: request.peer,
            content_type: request.content_type,
        };
        // Held until the answer is made: the octets are in flight until then.
        let _reservation = request.reservation;
        let received =
            match intake::receive(Vec::new(), request.body, Arc::clone(&self.bodies)).await {
                Ok(received) => received,
                Err(IntakeError::Interrupted(reason)) => return answer::interrupted(reason),
                Err(IntakeError::Store(failure)) => return cannot_store(&failure),
            };
        match self.accept(&caller, received).await {
            Ok(answer) => answer,
            Err(Stop::Refused(refusal)) => self.refused(*refusal).await,
            Err(Stop::Answered(answer)) => answer,
            Err(Stop::Store(failure)) => cannot_store(&failure),
        }
    }
}

impl ToDirect {
    async fn accept(&self, caller: &Caller, received: intake::Received) -> Result<XdrAnswer, Stop> {
        let understood = self.understand(caller, received).await?;
        let reply = ReplyTo::of(&understood.reading.request);
        tell_deviations(caller, &understood.findings);
        let decided = match &understood.notification {
            Some(notification) => {
                self.take_notification(caller, &understood, notification, &reply)
                    .await
            }
            None => self.decide_and_record(caller, &understood, &reply).await,
        };
        match decided {
            // The request was understood, so the refusal is a RegistryResponse (SOAP-91, SND-7).
            Err(Stop::Store(failure)) => Ok(not_recorded(&reply, &failure)),
            decided => decided,
        }
    }

    async fn decide_and_record(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
    ) -> Result<XdrAnswer, Stop> {
        // Before anything else is said about the message: a sender that is not the partner's own is a security event,
        // whatever else may be wrong.
        let from = understood.from.clone();
        let own = match &from {
            Some(from) => Some(self.domain_of(caller, from, reply)?),
            None => None,
        };
        let (Some(from), Some(own), Some(recipients), false) = (
            from,
            own,
            understood.recipients.clone(),
            finding::refuses(&understood.findings),
        ) else {
            return Err(self.refuse_for(caller, understood, reply, &understood.findings));
        };

        let _under_way = self.under_way.enter(&understood.digest).await;
        let sender = Sender { from, own };
        for _ in 0..MAX_OVERTAKEN {
            match self
                .decide_once(caller, understood, reply, &sender, recipients.clone())
                .await
            {
                // Another node recorded the same at this moment: it is an earlier one now.
                Err(Stop::Store(StoreError::Overtaken)) => {}
                decided => return decided,
            }
        }
        Err(Stop::Store(StoreError::Overtaken))
    }

    /// Decides and records what holds unless another node records the same submission meanwhile.
    async fn decide_once(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
        sender: &Sender,
        recipients: Recipients,
    ) -> Result<XdrAnswer, Stop> {
        let Sender { from, own } = sender;
        let keys = lookup_keys(caller, understood);
        let now = self.clock.now();
        let window = self.settings.resubmission_window;
        let earlier =
            Earlier::find(self.store.as_ref(), &keys, &understood.digest, now, window).await?;
        self.check_message_id(caller, reply, &earlier)?;

        let decided = self.decide_all(caller, own, recipients, &earlier).await;
        let refused = decided
            .iter()
            .filter(|recipient| recipient.refusal().is_some())
            .count();
        // What an earlier submission of the same has under way or delivered is no refusal, whatever the others are.
        let is_first = decided.iter().all(|recipient| !recipient.is_held());
        let is_refused = refused == decided.len()
            || (refused > 0 && is_first && caller.partner.partial == Partial::Atomic);
        if is_refused {
            return Err(self.refuse_recipients(caller, understood, reply, from, &decided));
        }
        let mut errors = answer::errors_of(&understood.findings);
        errors.extend(refusals(&decided, Severity::Warning));
        if decided.iter().all(|recipient| recipient.as_new().is_none()) {
            return self
                .repeated(caller, understood, reply, &earlier, errors)
                .await;
        }
        fault_points::pass("accept.decided").map_err(store_error)?;
        // Before the commit: its seal may be under way as soon as that is done.
        self.readings.keep(understood.body.id, &understood.reading);
        let exchange = self
            .record(caller, understood, from, &decided, keys, earlier.found)
            .await?;
        // The exchange is ours from the commit on, whatever happens: only a kill means anything here.
        let _ = fault_points::pass("accept.before_answer");
        info!(
            exchange.id = %exchange,
            partner = caller.partner.name.as_str(),
            level = understood.level.as_str(),
            size_bytes = understood.body.size,
            recipients = decided.len(),
            refused,
            warnings = warnings(&understood.findings),
            "accepted exchange {exchange} from partner {}", caller.partner.name
        );
        metrics::counter!(measures::SUBMISSIONS, "result" => "accepted").increment(1);
        Ok(reply.respond(errors))
    }

    async fn understand(
        &self,
        caller: &Caller,
        received: intake::Received,
    ) -> Result<Understood, Stop> {
        let (content_type, partner) = (caller.content_type.clone(), Arc::clone(&caller.partner));
        let (limits, bodies) = (Arc::clone(&self.limits), Arc::clone(&self.bodies));
        let (routes, destinations) = (Arc::clone(&self.routes), Arc::clone(&self.destinations));
        let now = self.clock.now();
        let reading = self.cpu.run(Urgency::PeerWaits, move || {
            let terms = Terms {
                partner: &partner,
                limits: &limits,
                routes: &routes,
                destinations: &destinations,
                level: None,
                from: None,
                to: &[],
                now: Some(now),
            };
            understand::understand(received, &content_type, &terms, &bodies)
        });
        let audit = || self.import(caller, AuditOutcome::Serious);
        match reading.await {
            Ok(Ok(understood)) => Ok(understood),
            Ok(Err(NotUnderstood::Store(failure))) => Err(Stop::Store(failure)),
            Ok(Err(NotUnderstood::Request(error))) => Err(unreadable(caller, &error, audit())),
            Ok(Err(NotUnderstood::Answer(answer, error))) => {
                match self.take_answer(caller, &answer).await? {
                    Some(taken) => Err(Stop::Answered(taken)),
                    None => Err(unreadable(caller, &error, audit())),
                }
            }
            Ok(Err(NotUnderstood::NoCanonicalForm(request))) => {
                let fault = Fault::sender("SOAP-80", "the metadata has no canonical form");
                Err(refusal(
                    ReplyTo::of(&request).fault(fault),
                    audit().with("error", "no canonical form"),
                ))
            }
            Ok(Err(NotUnderstood::Metadata(request, error))) => {
                let reply = ReplyTo::of(&request);
                Err(refusal(
                    reply.refuse(error.code(), error.to_string()),
                    audit().with("error", "the metadata is not readable"),
                ))
            }
            Err(panicked) => {
                error!(
                    alarm = "panic",
                    error = &panicked as &dyn std::error::Error,
                    "reading a request panicked"
                );
                measures::count_alarm("panic");
                let mut fault = Fault::receiver("the request could not be processed");
                fault.packaging = Packaging::of_content_type(&caller.content_type);
                Err(refusal(
                    answer::fault_answer(&fault),
                    audit().with("error", "panic"),
                ))
            }
        }
    }

    /// Decides every recipient: all at once, each within the time that a look-up may take before the answer.
    async fn decide_all(
        &self,
        caller: &Caller,
        own: &Arc<OwnDomain>,
        recipients: Recipients,
        earlier: &Earlier,
    ) -> Vec<Decided> {
        let deciding = recipients.addresses.into_iter().map(|address| async {
            if earlier.still_holds(&address).is_some() {
                return Decided::Before { address };
            }
            if !caller.partner.may_send_to(&address) {
                let decision = Decision::Refused(Reason::PolicyRefused, None);
                return Decided::New { address, decision };
            }
            // In our own domains we know who is there: whoever no XDR system takes mail for is nobody (RT-2).
            let is_own = self.own_domains.find(address.domain()).is_some();
            if is_own && self.endpoints.find(&address).is_none() {
                let decision = Decision::Refused(Reason::UnknownRecipient, None);
                return Decided::New { address, decision };
            }
            let decision = self
                .decide(&address, own, self.settings.accept_lookup)
                .await;
            Decided::New { address, decision }
        });
        let mut decided: Vec<Decided> = join_all(deciding).await;
        for recipient in &mut decided {
            if let Decided::New { address, decision } = recipient
                && let Decision::Refused(reason, _) = decision
                && earlier.names(address)
            {
                let (address, reason) = (address.clone(), *reason);
                *recipient = Decided::Again { address, reason };
            }
        }
        let refused = recipients.refused.into_iter();
        decided.extend(refused.map(|value| Decided::NoAddress {
            written: value.written,
            reason: value.reason,
        }));
        decided
    }
}

/// A request that is answered by a fault or an HTTP status. Who wants no answer is told nowhere but here (SOAP-70).
fn unreadable(caller: &Caller, error: &ReadError, audit: AuditRecord) -> Stop {
    let rule = match error {
        ReadError::Fault(fault) => fault.rule,
        ReadError::UnsupportedMediaType => "SOAP-7",
        ReadError::TooLarge { .. } => "LIM-1",
        ReadError::Io(_) | ReadError::Sink(_) => "",
    };
    info!(
        partner = caller.partner.name.as_str(),
        rules = rule,
        "a request of partner {} is no readable ITI-41 message: {rule}",
        caller.partner.name
    );
    let audit = audit.with("error", "the request is no readable ITI-41 message");
    refusal(answer::unreadable(error), audit.with("rules", rule))
}

/// A wish for notices of final delivery that cannot be understood is an error of its sender, which has to be seen in
/// the log though the message goes on without it (SOAP-119).
fn tell_deviations(caller: &Caller, findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| finding.rule == "SOAP-119") {
        error!(
            partner = caller.partner.name.as_str(),
            rule = finding.rule,
            element = finding.location.as_str(),
            "a header of partner {} is not as it must be: {}",
            caller.partner.name,
            finding.text
        );
    }
}

/// The rules of the tolerated deviations, for the log (XDR-142).
fn warnings(findings: &[Finding]) -> String {
    let rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
    rules.join(" ")
}
