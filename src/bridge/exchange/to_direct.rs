//! XDR to Direct: the transitions of mdn.md section 8.

use super::{
    Disposition, Effect, EventKind, Leg, LegKind, Reason, RecipientState as State, SealedMail,
    status, step::Life,
};
use crate::formats::ids::{DirectAddress, LegId};

pub(super) fn apply(life: &mut Life, event: &EventKind) {
    use EventKind as E;
    match event {
        E::Accepted => begin(life),
        E::CertificateFound {
            recipient,
            certificate,
            leg,
        } => take_certificate(life, recipient, certificate, leg),
        E::LookUpDeferred {
            recipient,
            reason,
            attempt,
            retry_at,
        } => {
            if let Some(index) = find_unlocated(life, recipient) {
                life.exchange.recipients[index].reason = Some(*reason);
                let look_up = Effect::LookUp {
                    recipient: index,
                    attempt: attempt.saturating_add(1),
                };
                life.retry(look_up, *retry_at);
            }
        }
        E::RecipientRefused { recipient, reason } => {
            if let Some(index) = find_in(life, recipient, &[State::Queued]) {
                settle(life, index, State::Rejected, Some(*reason));
                leave_unsealed_legs(life, index);
            }
        }
        E::TrustUndecided { recipient, reason } => {
            if let Some(index) = find_in(life, recipient, &[State::Queued]) {
                doubt(life, index, *reason);
            }
        }
        E::LegSealed {
            leg,
            recipients,
            sealed,
        } => take_sealed(life, *leg, recipients, sealed),
        E::LegFailed { leg, reason } => {
            for index in life.open_recipients() {
                let recipient = &life.exchange.recipients[index];
                if recipient.state == State::Queued && recipient.legs.contains(leg) {
                    settle(life, index, State::Bounced, Some(*reason));
                }
            }
        }
        E::SmtpAccepted { recipient, by } => {
            if let Some(index) = find_in(life, recipient, &[State::Queued]) {
                let recipient = &mut life.exchange.recipients[index];
                recipient.state = State::Relayed;
                recipient.reason = None;
                recipient.taken_by.clone_from(by);
            }
        }
        E::SmtpRefused { recipient, reason } => {
            if let Some(index) = find_in(life, recipient, &[State::Queued, State::Relayed]) {
                settle(life, index, State::Bounced, Some(*reason));
            }
        }
        E::SmtpDeferred {
            leg,
            domain,
            attempt,
            retry_at,
        } => {
            if life.exchange.queued_domains_of(*leg).contains(domain) {
                for recipient in &mut life.exchange.recipients {
                    let is_meant = recipient.legs.contains(leg)
                        && recipient.state == State::Queued
                        && recipient.address.domain() == domain;
                    if is_meant {
                        recipient.reason = None;
                    }
                }
                let send = Effect::Send {
                    leg: *leg,
                    domain: domain.clone(),
                    attempt: attempt.saturating_add(1),
                };
                life.retry(send, *retry_at);
            }
        }
        E::Notice {
            recipient,
            disposition,
        } => {
            if let Some(index) = find_noticed(life, recipient) {
                take_notice(life, index, *disposition);
            }
        }
        E::DsnFailed { recipient } => {
            if let Some(index) = find_noticed(life, recipient) {
                settle(life, index, State::Nacked, Some(Reason::DsnFailed));
            }
        }
        E::OperatorFailed { recipient } => {
            if let Some(index) = life.find_open(recipient) {
                settle(life, index, State::Bounced, Some(Reason::Operator));
                leave_unsealed_legs(life, index);
            }
        }
        E::DeadlineQueue => end_queue(life),
        E::DeadlineTp => {
            if life.has_come(life.exchange.deadlines.processed, Effect::DeadlineTp) {
                expire(
                    life,
                    &[State::Queued, State::Relayed],
                    State::ExpiredP,
                    Reason::TimeoutProcessed,
                );
            }
        }
        E::DeadlineTd => {
            if life.has_come(life.exchange.deadlines.dispatched, Effect::DeadlineTd) {
                expire(
                    life,
                    &[State::Processed],
                    State::ExpiredD,
                    Reason::TimeoutDispatched,
                );
            }
        }
        E::StatusMade {
            recipient,
            soap_message_id,
            request,
        } => status::made(life, *recipient, soap_message_id, request),
        E::StatusPosted {
            recipient,
            attempt,
            result,
        } => status::posted(life, *recipient, *attempt, *result),
        // An operator's, which both directions share; and the other direction's.
        E::OperatorHeld
        | E::OperatorReleased
        | E::Withheld { .. }
        | E::Opened(_)
        | E::Absorbed
        | E::MailRepeated { .. }
        | E::MdnSealed { .. }
        | E::MdnDone { .. }
        | E::PostStarted { .. }
        | E::Posted { .. }
        | E::DeferredAnswer { .. }
        | E::EdgeDisposition { .. } => {}
    }
}

fn begin(life: &mut Life) {
    let mail_legs: Vec<LegId> = life
        .exchange
        .legs
        .iter()
        .filter(|leg| leg.as_mail().is_some())
        .map(|leg| leg.id)
        .collect();
    for leg in mail_legs {
        if life.exchange.queued_recipients_of(leg).next().is_some() {
            life.now(Effect::Seal { leg });
        }
    }
    for index in life.open_recipients() {
        let recipient = &life.exchange.recipients[index];
        if recipient.state == State::Rejected {
            // Warned of in the answer already, and told like any other failure besides (XDR-32).
            let reason = recipient.reason.unwrap_or(Reason::Other);
            settle(life, index, State::Rejected, Some(reason));
        } else if recipient.legs.is_empty() {
            life.now(Effect::LookUp {
                recipient: index,
                attempt: 1,
            });
        }
    }
    let deadlines = life.exchange.deadlines;
    life.later(Effect::DeadlineQueue, deadlines.queue);
    life.later(Effect::DeadlineTp, deadlines.processed);
    if life.exchange.wants_final_delivery {
        life.later(Effect::DeadlineTd, deadlines.dispatched);
    }
}

fn take_certificate(life: &mut Life, address: &DirectAddress, certificate: &[u8], leg: &Leg) {
    let Some(index) = find_unlocated(life, address) else {
        return;
    };
    if life.exchange.leg(leg.id).is_none() {
        life.exchange.legs.push(leg.clone());
    }
    let recipient = &mut life.exchange.recipients[index];
    recipient.certificate = Some(certificate.to_vec());
    recipient.reason = None;
    recipient.legs.push(leg.id);
    life.now(Effect::Seal { leg: leg.id });
}

fn take_sealed(life: &mut Life, id: LegId, sealed_for: &[DirectAddress], sealed: &SealedMail) {
    let queued: Vec<&DirectAddress> = life
        .exchange
        .queued_recipients_of(id)
        .map(|recipient| &recipient.address)
        .collect();
    if queued.is_empty() {
        return;
    }
    let is_current = queued.len() == sealed_for.len()
        && queued.iter().all(|address| sealed_for.contains(address));
    let Some(mail) = unsealed_mail(life, id) else {
        return;
    };
    if !is_current {
        // A recipient left while the bytes were made. They still name it, and nobody can have them yet: only bytes
        // that are recorded are sent.
        return life.now(Effect::Seal { leg: id });
    }
    mail.sealed = Some(sealed.clone());
    for domain in life.exchange.queued_domains_of(id) {
        life.now(Effect::Send {
            leg: id,
            domain,
            attempt: 1,
        });
    }
}

fn take_notice(life: &mut Life, index: usize, disposition: Disposition) {
    let is_delivery = match disposition {
        Disposition::Dispatched { final_delivery } => final_delivery,
        Disposition::Displayed => life.exchange.displayed_is_delivery,
        Disposition::Processed => false,
        Disposition::Failed => {
            return settle(life, index, State::Nacked, Some(Reason::MdnFailed));
        }
        Disposition::Other => return,
    };
    if is_delivery {
        settle(life, index, State::Dispatched, None);
    } else if !life.exchange.wants_final_delivery {
        settle(life, index, State::Processed, None);
    } else {
        life.exchange.recipients[index].state = State::Processed;
        if life.exchange.deadlines.dispatched <= life.at {
            // Td fired before there was anything for it to decide.
            life.now(Effect::DeadlineTd);
        }
    }
}

/// Nothing is looked up or sent any more: what has not left by now is not sent.
fn end_queue(life: &mut Life) {
    if !life.has_come(life.exchange.deadlines.queue, Effect::DeadlineQueue) {
        return;
    }
    for index in life.open_recipients() {
        let recipient = &life.exchange.recipients[index];
        if recipient.state != State::Queued {
            continue;
        }
        if recipient.legs.is_empty() {
            let reason = recipient.reason.unwrap_or(Reason::NoCertificate);
            settle(life, index, State::Rejected, Some(reason));
        } else if let Some(reason) = recipient.reason {
            // Its certificate could not be trusted in time, and so it was not sent.
            settle(life, index, State::Rejected, Some(reason));
        } else if is_sealed(life, index) {
            // What an operator held was not tried: no peer is to blame.
            let reason = match life.exchange.hold {
                Some(_) => Reason::Operator,
                None => Reason::SmtpExpired,
            };
            settle(life, index, State::Bounced, Some(reason));
        } else {
            // No peer is to blame for a leg that we could not make in all this time.
            settle(life, index, State::Bounced, Some(Reason::Internal));
        }
    }
}

fn expire(life: &mut Life, from: &[State], to: State, reason: Reason) {
    for index in life.open_recipients() {
        if from.contains(&life.exchange.recipients[index].state) {
            settle(life, index, to, Some(reason));
        }
    }
}

/// A recipient that will not be served takes no part any more in legs whose bytes are still to be made. Sealed bytes
/// stay as they are: they may be on their way to another domain, or delivered with the reply lost (TX-29), and other
/// bytes under another Message-ID would be a second mail there (SND-6).
fn leave_unsealed_legs(life: &mut Life, index: usize) {
    let legs = std::mem::take(&mut life.exchange.recipients[index].legs);
    let is_sealed = |leg: &LegId| {
        life.exchange
            .mail_leg(*leg)
            .is_some_and(|mail| mail.sealed.is_some())
    };
    let kept = legs.into_iter().filter(is_sealed).collect();
    life.exchange.recipients[index].legs = kept;
}

/// Nothing is made or sent with a certificate that cannot be trusted now. Where the mail is not made yet, others are
/// looked for from here on, as for one that was not found at accept; where it is, the same is judged before each attempt.
fn doubt(life: &mut Life, index: usize, reason: Reason) {
    let had_legs = !life.exchange.recipients[index].legs.is_empty();
    leave_unsealed_legs(life, index);
    let recipient = &mut life.exchange.recipients[index];
    recipient.reason = Some(reason);
    if had_legs && recipient.legs.is_empty() {
        recipient.certificate = None;
        life.now(Effect::LookUp {
            recipient: index,
            attempt: 1,
        });
    }
}

fn settle(life: &mut Life, index: usize, state: State, failure: Option<Reason>) {
    if life.decide(index, state, failure) {
        life.now(Effect::ReportOutcome { recipient: index });
    }
}

/// The open recipient with this address, if it is in one of these states.
fn find_in(life: &Life, address: &DirectAddress, states: &[State]) -> Option<usize> {
    life.find_open(address)
        .filter(|index| states.contains(&life.exchange.recipients[*index].state))
}

/// The open recipient with this address, if its certificate is still looked for.
fn find_unlocated(life: &Life, address: &DirectAddress) -> Option<usize> {
    find_in(life, address, &[State::Queued])
        .filter(|index| life.exchange.recipients[*index].legs.is_empty())
}

/// The open recipient with this address, if something may have been sent to it: nobody can tell of a mail that does
/// not exist yet.
fn find_noticed(life: &Life, address: &DirectAddress) -> Option<usize> {
    life.find_open(address)
        .filter(|index| is_sealed(life, *index))
}

fn is_sealed(life: &Life, index: usize) -> bool {
    life.exchange.recipients[index]
        .legs
        .iter()
        .filter_map(|leg| life.exchange.mail_leg(*leg))
        .any(|mail| mail.sealed.is_some())
}

fn unsealed_mail(life: &mut Life, id: LegId) -> Option<&mut super::MailLeg> {
    life.exchange
        .legs
        .iter_mut()
        .filter(|leg| leg.id == id)
        .find_map(|leg| match &mut leg.kind {
            LegKind::Mail(mail) if mail.sealed.is_none() => Some(mail),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Exchange, Outcome, Recipient, Scheduled, samples::*, step};
    use super::*;

    const STAYS: Option<State> = None;

    /// The columns of the transition table in mdn.md section 8.
    fn columns() -> [(&'static str, EventKind); 11] {
        let recipient = || address(ADA);
        let notice = |disposition| EventKind::Notice {
            recipient: recipient(),
            disposition,
        };
        let dispatched = |final_delivery| notice(Disposition::Dispatched { final_delivery });
        [
            (
                "smtp 250",
                EventKind::SmtpAccepted {
                    recipient: recipient(),
                    by: None,
                },
            ),
            (
                "smtp 5xx",
                EventKind::SmtpRefused {
                    recipient: recipient(),
                    reason: Reason::SmtpRejected,
                },
            ),
            ("processed", notice(Disposition::Processed)),
            ("dispatched+ext", dispatched(true)),
            ("dispatched", dispatched(false)),
            ("displayed", notice(Disposition::Displayed)),
            ("deleted", notice(Disposition::Other)),
            ("failed", notice(Disposition::Failed)),
            (
                "DSN failed",
                EventKind::DsnFailed {
                    recipient: recipient(),
                },
            ),
            ("Tp", EventKind::DeadlineTp),
            ("Td", EventKind::DeadlineTd),
        ]
    }

    /// What each column makes of a state that is not settled.
    fn row(state: State) -> [Option<State>; 11] {
        use State::{Bounced, Dispatched, ExpiredD, ExpiredP, Nacked, Processed, Relayed};
        let (x, d, n) = (STAYS, Some(Dispatched), Some(Nacked));
        let p = Some(Processed);
        let b = Some(Bounced);
        match state {
            State::Queued => [Some(Relayed), b, p, d, p, d, x, n, n, Some(ExpiredP), x],
            State::Relayed => [x, b, p, d, p, d, x, n, n, Some(ExpiredP), x],
            Processed => [x, x, x, d, x, d, x, n, n, x, Some(ExpiredD)],
            _ => [STAYS; 11],
        }
    }

    /// An exchange that has begun, its one recipient in `state`, its leg sealed.
    fn in_state(state: State, wants_final_delivery: bool) -> Exchange {
        let mut leg = mail_leg(1);
        if let LegKind::Mail(mail) = &mut leg.kind {
            mail.sealed = Some(sealed(9));
        }
        let mut recipient = Recipient::queued(address(ADA), vec![leg.id], None);
        recipient.state = state;
        let mut exchange = from_xdr(vec![leg], vec![recipient]);
        exchange.is_begun = true;
        exchange.wants_final_delivery = wants_final_delivery;
        if state.is_final(wants_final_delivery) {
            exchange.recipients[0].outcome = Some(Outcome {
                at: minute(1),
                failure: (!state.is_success()).then_some(Reason::Other),
            });
            exchange.final_at = Some(minute(1));
        }
        exchange
    }

    fn reports(effects: &[Scheduled]) -> usize {
        effects
            .iter()
            .filter(|scheduled| matches!(scheduled.effect, Effect::ReportOutcome { .. }))
            .count()
    }

    fn begin_with(recipients: Vec<Recipient>) -> (Exchange, Vec<Scheduled>) {
        let mut exchange = from_xdr(vec![mail_leg(1)], recipients);
        let effects = feed(&mut exchange, minute(0), EventKind::Accepted);
        (exchange, effects)
    }

    fn located(text: &str) -> Recipient {
        Recipient::queued(address(text), vec![leg_id(1)], Some(b"der".to_vec()))
    }

    fn seal(exchange: &mut Exchange, leg: u128, recipients: &[&str]) -> Vec<Scheduled> {
        let kind = EventKind::LegSealed {
            leg: leg_id(leg),
            recipients: recipients.iter().map(|text| address(text)).collect(),
            sealed: sealed(leg + 100),
        };
        feed(exchange, minute(1), kind)
    }

    fn refuse(exchange: &mut Exchange, text: &str) -> Vec<Scheduled> {
        let kind = EventKind::RecipientRefused {
            recipient: address(text),
            reason: Reason::CertificateRevoked,
        };
        feed(exchange, minute(2), kind)
    }

    // rule: SRC-2, SRC-3, SRC-4, SRC-5, LOOP-6, DSN-2
    #[test]
    fn every_cell_of_the_transition_table_holds() {
        let late = minute(65);
        for wants_final_delivery in [false, true] {
            for state in State::ALL {
                let is_settled = state.is_final(wants_final_delivery);
                let row = if is_settled { [STAYS; 11] } else { row(state) };
                for ((name, kind), cell) in columns().into_iter().zip(row) {
                    let cell_name = format!("{state:?} x {name}, option {wants_final_delivery}");
                    let before = in_state(state, wants_final_delivery);
                    let event = Event { at: late, kind };
                    let (after, effects) = step(&before, &event);
                    let expected = cell.unwrap_or(state);
                    assert_eq!(after.recipients[0].state, expected, "{cell_name}");
                    let settles = !is_settled && expected.is_final(wants_final_delivery);
                    assert_eq!(reports(&effects), usize::from(settles), "{cell_name}");
                    if settles {
                        let outcome = after.recipients[0].outcome.as_ref().unwrap();
                        assert_eq!(outcome.at, late, "{cell_name}");
                        assert_eq!(outcome.failure.is_none(), expected.is_success());
                        assert_eq!(after.final_at, Some(late), "{cell_name}");
                    } else if cell.is_none() {
                        assert_eq!(after, before, "{cell_name}");
                    }
                }
            }
        }
    }

    // rule: RT-7, RT-9, RT-10
    #[test]
    fn every_failure_carries_the_reason_of_its_cause() {
        for (state, column, reason) in [
            (State::Queued, 1, Reason::SmtpRejected),
            (State::Relayed, 7, Reason::MdnFailed),
            (State::Relayed, 8, Reason::DsnFailed),
            (State::Relayed, 9, Reason::TimeoutProcessed),
            (State::Processed, 10, Reason::TimeoutDispatched),
        ] {
            let mut exchange = in_state(state, true);
            feed(&mut exchange, minute(61), columns()[column].1.clone());
            let outcome = exchange.recipients[0].outcome.clone().unwrap();
            assert_eq!(outcome.failure, Some(reason));
            assert_eq!(exchange.recipients[0].reason, Some(reason));
        }
    }

    #[test]
    fn displayed_counts_as_processed_where_the_partner_says_so() {
        let mut exchange = in_state(State::Relayed, true);
        exchange.displayed_is_delivery = false;
        let displayed = columns()[5].1.clone();
        feed(&mut exchange, minute(2), displayed);
        assert_eq!(exchange.recipients[0].state, State::Processed);
        assert!(exchange.recipients[0].outcome.is_none());
    }

    // rule: SRC-4
    #[test]
    fn a_deadline_that_fires_early_decides_nothing_and_is_set_again() {
        for (state, kind, effect) in [
            (State::Relayed, EventKind::DeadlineTp, Effect::DeadlineTp),
            (State::Processed, EventKind::DeadlineTd, Effect::DeadlineTd),
        ] {
            let mut exchange = in_state(state, true);
            let effects = feed(&mut exchange, minute(59), kind);
            assert_eq!(effects, [Scheduled::new(effect, minute(60))]);
            assert_eq!(exchange.recipients[0].state, state);
        }
        let mut exchange = in_state(State::Queued, true);
        let effects = feed(&mut exchange, minute(49), EventKind::DeadlineQueue);
        assert_eq!(effects, [Scheduled::new(Effect::DeadlineQueue, minute(50))]);
    }

    fn undecided() -> EventKind {
        EventKind::TrustUndecided {
            recipient: address(ADA),
            reason: Reason::Untrusted,
        }
    }

    // rule: REV-4
    #[test]
    fn a_recipient_in_doubt_leaves_a_mail_that_is_not_made_and_is_looked_up_again() {
        let (mut exchange, _) = begin_with(vec![located(ADA), located(NGOZI)]);
        let again = Effect::LookUp {
            recipient: 0,
            attempt: 1,
        };
        let effects = feed(&mut exchange, minute(1), undecided());
        assert_eq!(effects, [Scheduled::new(again, minute(1))]);
        assert!(exchange.recipients[0].legs.is_empty());
        assert!(feed(&mut exchange, minute(1), undecided()).is_empty());
        // The others go on without it.
        assert_eq!(seal(&mut exchange, 1, &[NGOZI]).len(), 1);
        feed(&mut exchange, minute(50), EventKind::DeadlineQueue);
        let recipient = &exchange.recipients[0];
        assert_eq!(recipient.state, State::Rejected);
        assert_eq!(recipient.reason, Some(Reason::Untrusted));
    }

    // rule: REV-4, SND-6
    #[test]
    fn a_recipient_in_doubt_keeps_its_sealed_mail_and_the_last_attempt_says_why_it_was_not_sent() {
        let deferred = EventKind::SmtpDeferred {
            leg: leg_id(1),
            domain: address(ADA).domain().clone(),
            attempt: 1,
            retry_at: minute(9),
        };
        let cases: [(&[EventKind], _, _); 4] = [
            (
                &[deferred.clone(), undecided()],
                State::Rejected,
                Some(Reason::Untrusted),
            ),
            (
                &[undecided(), deferred.clone()],
                State::Bounced,
                Some(Reason::SmtpExpired),
            ),
            (&[undecided(), columns()[0].1.clone()], State::Relayed, None),
            (&[columns()[0].1.clone(), undecided()], State::Relayed, None),
        ];
        for (kinds, state, reason) in cases {
            let mut exchange = in_state(State::Queued, false);
            for kind in kinds {
                feed(&mut exchange, minute(1), kind.clone());
            }
            assert_eq!(exchange.recipients[0].legs, [leg_id(1)]);
            feed(&mut exchange, minute(50), EventKind::DeadlineQueue);
            let recipient = &exchange.recipients[0];
            assert_eq!((recipient.state, recipient.reason), (state, reason));
        }
    }

    #[test]
    fn a_processed_notice_after_td_is_judged_by_td_at_once() {
        let mut exchange = in_state(State::Relayed, true);
        exchange.deadlines.processed = minute(90);
        feed(&mut exchange, minute(60), EventKind::DeadlineTd);
        let processed = columns()[2].1.clone();
        let effects = feed(&mut exchange, minute(70), processed);
        assert_eq!(effects, [Scheduled::new(Effect::DeadlineTd, minute(70))]);
        feed(&mut exchange, minute(70), EventKind::DeadlineTd);
        assert_eq!(exchange.recipients[0].state, State::ExpiredD);
    }

    // rule: XDR-32, SRC-1, SRC-6
    #[test]
    fn acceptance_seals_looks_up_and_reports_the_refused_at_once() {
        let (exchange, effects) = begin_with(vec![
            located(ADA),
            Recipient::queued(address(NGOZI), Vec::new(), None),
            Recipient::refused(address("x@gone.example"), Reason::UnknownRecipient),
        ]);
        assert_eq!(
            effects,
            [
                Scheduled::new(Effect::Seal { leg: leg_id(1) }, minute(0)),
                Scheduled::new(
                    Effect::LookUp {
                        recipient: 1,
                        attempt: 1
                    },
                    minute(0)
                ),
                Scheduled::new(Effect::ReportOutcome { recipient: 2 }, minute(0)),
                Scheduled::new(Effect::DeadlineQueue, minute(50)),
                Scheduled::new(Effect::DeadlineTp, minute(60)),
            ]
        );
        let outcome = exchange.recipients[2].outcome.clone().unwrap();
        assert_eq!(outcome.failure, Some(Reason::UnknownRecipient));
        assert!(exchange.final_at.is_none());
    }

    #[test]
    fn an_exchange_begins_once_and_nothing_happens_to_it_before() {
        let fresh = from_xdr(vec![mail_leg(1)], vec![located(ADA)]);
        let early = Event {
            at: minute(1),
            kind: columns()[7].1.clone(),
        };
        assert_eq!(step(&fresh, &early), (fresh.clone(), Vec::new()));
        let (begun, _) = begin_with(vec![located(ADA)]);
        let again = Event {
            at: minute(1),
            kind: EventKind::Accepted,
        };
        assert_eq!(step(&begun, &again), (begun.clone(), Vec::new()));
    }

    // rule: XDR-81
    #[test]
    fn a_sealed_leg_is_sent_to_each_domain_once() {
        let (mut exchange, _) = begin_with(vec![
            located(ADA),
            located(NGOZI),
            located("second@HISP.example"),
        ]);
        let everybody = ["second@hisp.example", NGOZI, ADA];
        let effects = seal(&mut exchange, 1, &everybody);
        let domains: Vec<String> = effects
            .iter()
            .map(|scheduled| match &scheduled.effect {
                Effect::Send {
                    leg,
                    domain,
                    attempt: 1,
                } if *leg == leg_id(1) => domain.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(domains, ["clinic.example", "hisp.example"]);
        assert!(seal(&mut exchange, 1, &everybody).is_empty());
    }

    // rule: XDR-88, MR-2
    #[test]
    fn a_recipient_found_late_gets_a_leg_of_its_own() {
        let (mut exchange, _) = begin_with(vec![
            located(ADA),
            Recipient::queued(address(NGOZI), Vec::new(), None),
        ]);
        let found = EventKind::CertificateFound {
            recipient: address(NGOZI),
            certificate: b"der".to_vec(),
            leg: mail_leg(2),
        };
        let before = exchange.clone();
        let effects = feed(&mut exchange, minute(1), found.clone());
        let leg = leg_id(2);
        assert_eq!(effects, [Scheduled::new(Effect::Seal { leg }, minute(1))]);
        assert_eq!(exchange.recipients[1].legs, [leg]);
        assert_eq!(exchange.legs_since(&before).count(), 1);
        assert!(feed(&mut exchange, minute(2), found).is_empty());
    }

    // rule: RT-6, RT-8
    #[test]
    fn the_end_of_the_queue_settles_what_has_not_left() {
        let mut failing = Recipient::queued(address("c@third.example"), Vec::new(), None);
        failing.reason = None;
        let (mut exchange, _) = begin_with(vec![
            located(ADA),
            Recipient::queued(address(NGOZI), Vec::new(), None),
            failing,
            located("sent@hisp.example"),
        ]);
        let deferred = EventKind::LookUpDeferred {
            recipient: address("c@third.example"),
            reason: Reason::Untrusted,
            attempt: 1,
            retry_at: minute(10),
        };
        let effects = feed(&mut exchange, minute(5), deferred);
        let look_up = Effect::LookUp {
            recipient: 2,
            attempt: 2,
        };
        assert_eq!(effects, [Scheduled::new(look_up, minute(10))]);
        seal(&mut exchange, 1, &[ADA, "sent@hisp.example"]);
        let accepted = EventKind::SmtpAccepted {
            recipient: address("sent@hisp.example"),
            by: None,
        };
        feed(&mut exchange, minute(6), accepted);
        let effects = feed(&mut exchange, minute(50), EventKind::DeadlineQueue);
        assert_eq!(reports(&effects), 3);
        let of = |index: usize| {
            (
                exchange.recipients[index].state,
                exchange.recipients[index].reason,
            )
        };
        assert_eq!(of(0), (State::Bounced, Some(Reason::SmtpExpired)));
        assert_eq!(of(1), (State::Rejected, Some(Reason::NoCertificate)));
        assert_eq!(of(2), (State::Rejected, Some(Reason::Untrusted)));
        assert_eq!(of(3), (State::Relayed, None));
    }

    // rule: RT-17
    #[test]
    fn a_leg_never_sealed_by_the_end_of_the_queue_is_our_own_fault() {
        let (mut exchange, _) = begin_with(vec![located(ADA)]);
        feed(&mut exchange, minute(50), EventKind::DeadlineQueue);
        assert_eq!(exchange.recipients[0].reason, Some(Reason::Internal));
    }

    #[test]
    fn an_attempt_is_repeated_only_while_there_is_somebody_to_send_to_and_time() {
        let (mut exchange, _) = begin_with(vec![located(ADA)]);
        seal(&mut exchange, 1, &[ADA]);
        let deferred = |retry_at| EventKind::SmtpDeferred {
            leg: leg_id(1),
            domain: address(ADA).domain().clone(),
            attempt: 3,
            retry_at,
        };
        let send = Effect::Send {
            leg: leg_id(1),
            domain: address(ADA).domain().clone(),
            attempt: 4,
        };
        let effects = feed(&mut exchange, minute(2), deferred(minute(7)));
        assert_eq!(effects, [Scheduled::new(send, minute(7))]);
        assert!(feed(&mut exchange, minute(45), deferred(minute(50))).is_empty());
        feed(&mut exchange, minute(46), columns()[0].1.clone());
        assert!(feed(&mut exchange, minute(47), deferred(minute(48))).is_empty());
    }

    // rule: RT-11, RT-12
    #[test]
    fn a_leg_that_cannot_be_made_fails_its_recipients_and_no_other() {
        let (mut exchange, _) = begin_with(vec![
            located(ADA),
            Recipient::queued(address(NGOZI), Vec::new(), None),
        ]);
        let failed = EventKind::LegFailed {
            leg: leg_id(1),
            reason: Reason::TooLarge,
        };
        assert_eq!(reports(&feed(&mut exchange, minute(1), failed)), 1);
        assert_eq!(exchange.recipients[0].state, State::Bounced);
        assert_eq!(exchange.recipients[0].reason, Some(Reason::TooLarge));
        assert!(exchange.recipients[1].outcome.is_none());
    }

    // rule: SND-6, MR-2
    #[test]
    fn a_recipient_refused_before_sealing_leaves_its_leg() {
        let (mut exchange, _) = begin_with(vec![located(ADA), located(NGOZI)]);
        assert_eq!(reports(&refuse(&mut exchange, NGOZI)), 1);
        assert!(exchange.recipients[1].legs.is_empty());
        // Bytes made before the refusal still name it: they are dropped and made again.
        let effects = seal(&mut exchange, 1, &[ADA, NGOZI]);
        assert_eq!(effects[0].effect, Effect::Seal { leg: leg_id(1) });
        assert!(exchange.mail_leg(leg_id(1)).unwrap().sealed.is_none());
        let effects = seal(&mut exchange, 1, &[ADA]);
        assert!(matches!(effects[0].effect, Effect::Send { .. }));
    }

    // rule: SND-6
    #[test]
    fn a_recipient_refused_after_sealing_is_not_sent_to_and_the_others_get_the_bytes_as_they_are() {
        for is_somebody_sent in [false, true] {
            let everybody = [ADA, NGOZI, "b@hisp.example"];
            let (mut exchange, _) = begin_with(everybody.map(located).to_vec());
            seal(&mut exchange, 1, &everybody);
            if is_somebody_sent {
                feed(&mut exchange, minute(2), columns()[0].1.clone());
            }
            let legs = exchange.legs.clone();
            let effects = refuse(&mut exchange, "b@hisp.example");
            // Nothing is sealed: those to be sent to have been asked for with the first sealing.
            assert_eq!(
                effects,
                [Scheduled::new(
                    Effect::ReportOutcome { recipient: 2 },
                    minute(2)
                )]
            );
            assert_eq!(exchange.legs, legs);
            assert_eq!(exchange.recipients[2].state, State::Rejected);
            let waiting: Vec<String> = exchange
                .queued_recipients_of(leg_id(1))
                .map(|recipient| recipient.address.to_string())
                .collect();
            let expected: &[&str] = if is_somebody_sent {
                &[NGOZI]
            } else {
                &[ADA, NGOZI]
            };
            assert_eq!(waiting, expected);
        }
    }

    #[test]
    fn an_operator_ends_any_open_recipient() {
        for state in [State::Queued, State::Relayed, State::Processed] {
            let mut exchange = in_state(state, true);
            let recipient = address(ADA);
            feed(
                &mut exchange,
                minute(3),
                EventKind::OperatorFailed { recipient },
            );
            assert_eq!(exchange.recipients[0].reason, Some(Reason::Operator));
            assert_eq!(exchange.final_at, Some(minute(3)));
        }
    }

    #[test]
    fn a_notice_about_a_mail_that_was_never_made_changes_nothing() {
        let (mut exchange, _) = begin_with(vec![
            located(ADA),
            Recipient::queued(address(NGOZI), Vec::new(), None),
        ]);
        // Another leg's bytes are no proof of this one's.
        let found = EventKind::CertificateFound {
            recipient: address(NGOZI),
            certificate: b"der".to_vec(),
            leg: mail_leg(2),
        };
        feed(&mut exchange, minute(1), found);
        seal(&mut exchange, 2, &[NGOZI]);
        assert!(exchange.mail_leg(leg_id(2)).unwrap().sealed.is_some());
        for column in [2, 3, 5, 7, 8] {
            let event = Event {
                at: minute(1),
                kind: columns()[column].1.clone(),
            };
            assert_eq!(step(&exchange, &event), (exchange.clone(), Vec::new()));
        }
    }

    #[test]
    fn bodies_go_when_the_last_recipient_is_settled_and_retention_is_over() {
        let (mut exchange, _) = begin_with(vec![located(ADA), located(NGOZI)]);
        seal(&mut exchange, 1, &[ADA, NGOZI]);
        let refused = |text: &str| EventKind::SmtpRefused {
            recipient: address(text),
            reason: Reason::SmtpRejected,
        };
        feed(&mut exchange, minute(2), refused(ADA));
        assert!(exchange.final_at.is_none());
        let effects = feed(&mut exchange, minute(3), refused(NGOZI));
        assert_eq!(exchange.final_at, Some(minute(3)));
        assert!(effects.contains(&Scheduled::new(Effect::RemoveBodies, minute(3 + 24 * 60))));
    }
}
