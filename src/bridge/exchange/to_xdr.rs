//! Direct to XDR: the transitions of mdn.md section 9.

use std::time::Duration;

use super::{
    Effect, EventKind, Exchange, LegKind, LegState, MdnToSend, Opening, Origin, PostResult, Reason,
    RecipientAnswer, RecipientState as State, SealedMail, SealedMdn, XdrLeg, step::Life,
    timers::after,
};
use crate::formats::ids::{DirectAddress, LegId};

/// How often the MDNs are sent again within [`REPEAT_WINDOW`] because the mail came again (LOOP-4).
const MAX_REPEATS: usize = 5;
/// The number of the first post of a leg.
const FIRST_ATTEMPT: u32 = 1;
const REPEAT_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the hand-over of an MDN is tried (LOOP-2).
const MDN_LIFETIME: Duration = Duration::from_secs(60 * 60);

pub(super) fn apply(life: &mut Life, event: &EventKind) {
    use EventKind as E;
    match event {
        E::Accepted => begin(life),
        E::Opened(opening) => open(life, opening),
        E::Absorbed => absorb(life),
        E::RecipientRefused { recipient, reason } => {
            if let Some(index) = life.find_open(recipient) {
                // Not trusted, and so never told of (DST-2); or refused after the promise, and told.
                let state = if life.exchange.recipients[index].mdns.is_due {
                    State::Nacked
                } else {
                    State::Rejected
                };
                settle(life, index, state, Some(*reason));
                abandon_legs(life, *reason);
            }
        }
        E::TrustUndecided { recipient, reason } => {
            if !is_opened(&life.exchange)
                && let Some(index) = life.find_open(recipient)
            {
                life.exchange.recipients[index].reason = Some(*reason);
            }
        }
        E::OperatorFailed { recipient } => {
            if let Some(index) = life.find_open(recipient) {
                let reason = ended_by_operator(&life.exchange, index);
                settle(life, index, State::Bounced, Some(reason));
                abandon_legs(life, Reason::Operator);
            }
        }
        E::LegFailed { leg, reason } => end_leg(life, *leg, LegState::Refused, Some(*reason)),
        E::PostStarted { leg } => {
            if life.exchange.hold.is_none()
                && let Some(post) = post_in(life, *leg, &[LegState::Opened])
            {
                post.state = LegState::Posting;
            }
        }
        E::Posted {
            leg,
            attempt,
            result,
            code,
        } => {
            if let Some(post) = post_in(life, *leg, &[LegState::Opened, LegState::Posting]) {
                post.error_code.clone_from(code);
                take_result(life, *leg, attempt.saturating_add(1), result);
            }
        }
        E::DeferredAnswer { leg, result } => {
            let is_answer = !matches!(result, PostResult::Deferred | PostResult::AnswerLost { .. });
            let open = [
                LegState::Opened,
                LegState::Posting,
                LegState::AwaitingDeferred,
            ];
            if is_answer && post_in(life, *leg, &open).is_some() {
                take_result(life, *leg, FIRST_ATTEMPT, result);
            }
        }
        E::EdgeDisposition {
            leg,
            recipient,
            success,
        } => take_disposition(life, *leg, recipient, *success),
        E::MdnSealed {
            recipient,
            disposition,
            sealed,
        } => keep_mdn(life, recipient, *disposition, sealed),
        E::MdnDone {
            recipient,
            disposition: MdnToSend::Processed,
        } => finish_processed(life, recipient),
        E::MailRepeated { recipients } => repeat_mdns(life, recipients),
        E::DeadlineQueue => {
            if life.has_come(life.exchange.deadlines.queue, Effect::DeadlineQueue) {
                expire(life);
            }
        }
        // A final MDN that left has nothing more to say; an operator's are shared by both directions; the rest is the
        // other direction's.
        E::MdnDone { .. }
        | E::OperatorHeld
        | E::OperatorReleased
        | E::Withheld { .. }
        | E::CertificateFound { .. }
        | E::LookUpDeferred { .. }
        | E::LegSealed { .. }
        | E::SmtpAccepted { .. }
        | E::SmtpRefused { .. }
        | E::SmtpDeferred { .. }
        | E::Notice { .. }
        | E::DsnFailed { .. }
        | E::StatusMade { .. }
        | E::StatusPosted { .. }
        | E::DeadlineTp
        | E::DeadlineTd => {}
    }
    settle_by_legs(life);
}

fn begin(life: &mut Life) {
    for index in life.open_recipients() {
        let recipient = &life.exchange.recipients[index];
        if recipient.state == State::Rejected {
            let reason = recipient.reason.unwrap_or(Reason::Other);
            settle(life, index, State::Rejected, Some(reason));
        }
    }
    life.now(Effect::Open);
    life.later(Effect::DeadlineQueue, life.exchange.deadlines.queue);
}

fn open(life: &mut Life, opening: &Opening) {
    if is_opened(&life.exchange) {
        return;
    }
    if let Origin::Direct {
        message_id,
        from,
        digest,
        signer,
        ..
    } = &mut life.exchange.origin
    {
        message_id.clone_from(&opening.message_id);
        *from = Some(opening.from.clone());
        *digest = Some(opening.digest);
        *signer = Some(opening.signer.clone());
    }
    life.exchange.wants_final_delivery = opening.wants_final_delivery;
    for (leg, _) in &opening.legs {
        let mut leg = leg.clone();
        if let LegKind::Xdr(post) = &mut leg.kind {
            post.state = LegState::Opened;
            life.exchange.legs.push(leg);
        }
    }
    for index in life.open_recipients() {
        let address = life.exchange.recipients[index].address.clone();
        let failed = opening.failed.iter().find(|(failed, _)| *failed == address);
        let legs: Vec<LegId> = opening
            .legs
            .iter()
            .filter(|(_, served)| served.contains(&address))
            .map(|(leg, _)| leg.id)
            .filter(|leg| life.exchange.leg(*leg).is_some())
            .collect();
        match failed {
            Some((_, reason)) => {
                trust(life, index);
                settle(life, index, State::Nacked, Some(*reason));
            }
            None if legs.is_empty() => {
                settle(life, index, State::Rejected, Some(Reason::Untrusted));
            }
            None => {
                trust(life, index);
                life.exchange.recipients[index].legs = legs;
            }
        }
    }
    let legs: Vec<LegId> = life.exchange.legs.iter().map(|leg| leg.id).collect();
    for leg in legs {
        let endpoint = life.exchange.leg(leg).and_then(|leg| leg.as_xdr());
        let endpoint = endpoint.map(|post| post.endpoint.clone());
        if let Some(endpoint) = endpoint
            && life.exchange.recipients_of(leg).next().is_some()
        {
            life.now(Effect::Post {
                leg,
                endpoint,
                attempt: FIRST_ATTEMPT,
            });
        } else {
            end_leg(life, leg, LegState::Refused, None);
        }
    }
}

/// From here on MDNs speak for this recipient: `processed` first, whatever becomes of it (MDN-12, DST-5).
fn trust(life: &mut Life, index: usize) {
    let recipient = &mut life.exchange.recipients[index];
    recipient.reason = None;
    recipient.mdns.is_due = true;
    send_mdn(life, index, MdnToSend::Processed);
}

fn absorb(life: &mut Life) {
    if !is_opened(&life.exchange) {
        for index in life.open_recipients() {
            settle(life, index, State::Dispatched, None);
        }
    }
}

/// `next` is the number of the attempt that follows, should one follow.
fn take_result(life: &mut Life, id: LegId, next: u32, result: &PostResult) {
    let served: Vec<DirectAddress> = life
        .exchange
        .recipients_of(id)
        .map(|recipient| recipient.address.clone())
        .collect();
    let open = [
        LegState::Opened,
        LegState::Posting,
        LegState::AwaitingDeferred,
    ];
    let Some(post) = post_in(life, id, &open) else {
        return;
    };
    let again = Effect::Post {
        leg: id,
        endpoint: post.endpoint.clone(),
        attempt: next,
    };
    let delivered = if post.final_by_disposition {
        LegState::AwaitingDeferred
    } else {
        LegState::Delivered
    };
    match result {
        PostResult::Success => post.state = delivered,
        PostResult::Partial { failed } => {
            let failed: Vec<_> = served
                .iter()
                .filter(|address| failed.contains(address))
                .collect();
            if failed.is_empty() || failed.len() == served.len() {
                // Errors that belong to no one recipient belong to all.
                return end_leg(life, id, LegState::Refused, Some(Reason::XdrRefused));
            }
            post.state = delivered;
            for address in failed {
                answer(post, address, false);
            }
            close_if_answered(post, &served);
        }
        PostResult::Refused => end_leg(life, id, LegState::Refused, Some(Reason::XdrRefused)),
        PostResult::Unavailable { retry_at } => {
            post.state = LegState::Opened;
            life.retry(again, *retry_at);
        }
        PostResult::Deferred => post.state = LegState::AwaitingDeferred,
        PostResult::AnswerLost { retry_at } => {
            post.answer_lost = true;
            if post.idempotent {
                post.state = LegState::Opened;
                life.retry(again, *retry_at);
            } else {
                post.state = LegState::InDoubt;
            }
        }
    }
}

fn take_disposition(life: &mut Life, id: LegId, recipient: &DirectAddress, success: bool) {
    let served: Vec<DirectAddress> = life
        .exchange
        .recipients_of(id)
        .map(|recipient| recipient.address.clone())
        .collect();
    // It may overtake our own record of the answer to the post.
    let open = [
        LegState::Opened,
        LegState::Posting,
        LegState::AwaitingDeferred,
    ];
    let Some(post) = post_in(life, id, &open) else {
        return;
    };
    if post.final_by_disposition && served.contains(recipient) {
        answer(post, recipient, success);
        close_if_answered(post, &served);
    }
}

/// The first answer about a recipient stands.
fn answer(post: &mut XdrLeg, recipient: &DirectAddress, success: bool) {
    if post
        .answers
        .iter()
        .all(|known| known.recipient != *recipient)
    {
        post.answers.push(RecipientAnswer {
            recipient: recipient.clone(),
            success,
        });
    }
}

fn close_if_answered(post: &mut XdrLeg, served: &[DirectAddress]) {
    let answer_for = |address: &DirectAddress| {
        post.answers
            .iter()
            .find(|answer| answer.recipient == *address)
    };
    if served.iter().all(|address| answer_for(address).is_some()) {
        post.state = if post.answers.iter().any(|answer| answer.success) {
            LegState::Delivered
        } else {
            LegState::Refused
        };
    }
}

/// Attempts have ended. What may have been stored is in doubt; the rest was not stored.
fn expire(life: &mut Life) {
    let is_held = life.exchange.hold.is_some();
    for leg in &mut life.exchange.legs {
        let LegKind::Xdr(post) = &mut leg.kind else {
            continue;
        };
        if is_held && post.state == LegState::Opened && !post.answer_lost {
            // It was not tried to the end: the endpoint is not to blame.
            post.reason = Some(Reason::Operator);
        }
        post.state = match post.state {
            LegState::Posting => LegState::InDoubt,
            LegState::Opened if post.answer_lost => LegState::InDoubt,
            LegState::Received | LegState::Opened | LegState::AwaitingDeferred => LegState::Expired,
            settled @ (LegState::InDoubt
            | LegState::Delivered
            | LegState::Refused
            | LegState::Expired) => settled,
        };
    }
    if !is_opened(&life.exchange) {
        // Never opened in all this time: a fault of ours, unless trust was undecided. Nobody is trusted, so nobody is told.
        for index in life.open_recipients() {
            let reason = life.exchange.recipients[index].reason;
            let reason = reason.unwrap_or(Reason::Internal);
            settle(life, index, State::Rejected, Some(reason));
        }
    }
}

fn end_leg(life: &mut Life, id: LegId, state: LegState, reason: Option<Reason>) {
    let open = [
        LegState::Received,
        LegState::Opened,
        LegState::Posting,
        LegState::AwaitingDeferred,
    ];
    if let Some(post) = post_in(life, id, &open) {
        post.state = state;
        post.reason = reason;
    }
}

/// Ends the legs that nobody waits for any more.
fn abandon_legs(life: &mut Life, reason: Reason) {
    let legs: Vec<LegId> = life.exchange.legs.iter().map(|leg| leg.id).collect();
    for leg in legs {
        let is_awaited = life
            .exchange
            .recipients_of(leg)
            .any(|recipient| recipient.outcome.is_none());
        if !is_awaited {
            let may_be_stored = life.exchange.leg(leg).and_then(|leg| leg.as_xdr());
            let state = match may_be_stored.is_some_and(may_have_arrived) {
                true => LegState::InDoubt,
                false => LegState::Refused,
            };
            end_leg(life, leg, state, Some(reason));
        }
    }
}

/// What the sender is told of a recipient whom an operator gives up: where a post may have arrived, that is what counts
/// for whoever thinks of sending again.
fn ended_by_operator(exchange: &Exchange, index: usize) -> Reason {
    let legs = exchange.recipients[index].legs.iter();
    let mut posts = legs.filter_map(|leg| exchange.leg(*leg)?.as_xdr());
    if posts.any(may_have_arrived) {
        Reason::InDoubt
    } else {
        Reason::Operator
    }
}

/// Whether a post of this open leg left, and nobody knows whether it was stored.
fn may_have_arrived(post: &XdrLeg) -> bool {
    match post.state {
        LegState::Posting => true,
        LegState::Opened => post.answer_lost,
        LegState::Received
        | LegState::AwaitingDeferred
        | LegState::InDoubt
        | LegState::Delivered
        | LegState::Refused
        | LegState::Expired => false,
    }
}

/// Settles every recipient for whom all its legs have ended: delivered if all were (XDR-102).
fn settle_by_legs(life: &mut Life) {
    for index in life.open_recipients() {
        let recipient = &life.exchange.recipients[index];
        let ends: Vec<LegEnd> = recipient
            .legs
            .iter()
            .filter_map(|leg| life.exchange.leg(*leg)?.as_xdr())
            .map(|post| end_for(post, &recipient.address))
            .collect();
        if ends.is_empty() || ends.contains(&LegEnd::Open) {
            continue;
        }
        let failure = ends.iter().find_map(|end| match end {
            LegEnd::Failed(state, reason) => Some((*state, *reason)),
            LegEnd::Open | LegEnd::Delivered => None,
        });
        match failure {
            Some((state, reason)) => settle(life, index, state, Some(reason)),
            None => settle(life, index, State::Dispatched, None),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LegEnd {
    Open,
    Delivered,
    Failed(State, Reason),
}

fn end_for(post: &XdrLeg, address: &DirectAddress) -> LegEnd {
    let answered = post
        .answers
        .iter()
        .find(|answer| answer.recipient == *address);
    match (answered, post.state) {
        (Some(answer), _) if answer.success => LegEnd::Delivered,
        (Some(_), _) => LegEnd::Failed(State::Nacked, Reason::XdrRefused),
        (None, LegState::Delivered) => LegEnd::Delivered,
        (None, LegState::Refused) => {
            LegEnd::Failed(State::Nacked, post.reason.unwrap_or(Reason::XdrRefused))
        }
        (None, LegState::Expired) => LegEnd::Failed(
            State::ExpiredD,
            post.reason.unwrap_or(Reason::XdrUnavailable),
        ),
        (None, LegState::InDoubt) => LegEnd::Failed(State::Bounced, Reason::InDoubt),
        (
            None,
            LegState::Received | LegState::Opened | LegState::Posting | LegState::AwaitingDeferred,
        ) => LegEnd::Open,
    }
}

fn settle(life: &mut Life, index: usize, state: State, failure: Option<Reason>) {
    if life.decide(index, state, failure) && life.exchange.recipients[index].mdns.processed_done {
        send_final_mdn(life, index);
    }
}

fn keep_mdn(life: &mut Life, address: &DirectAddress, disposition: MdnToSend, mail: &SealedMail) {
    let recipients = life.exchange.recipients.iter_mut();
    for recipient in recipients.filter(|recipient| recipient.address == *address) {
        let mdns = &mut recipient.mdns;
        if mdns.is_due && mdns.sealed(disposition).is_none() {
            let mail = mail.clone();
            mdns.sealed.push(SealedMdn { disposition, mail });
        }
    }
}

fn finish_processed(life: &mut Life, address: &DirectAddress) {
    let position = life
        .exchange
        .recipients
        .iter()
        .position(|recipient| recipient.address == *address);
    let Some(index) = position else { return };
    let recipient = &mut life.exchange.recipients[index];
    if recipient.mdns.is_due && !recipient.mdns.processed_done {
        recipient.mdns.processed_done = true;
        if recipient.outcome.is_some() {
            send_final_mdn(life, index);
        }
    }
}

fn send_final_mdn(life: &mut Life, index: usize) {
    if let Some(disposition) = final_mdn(&life.exchange, index) {
        send_mdn(life, index, disposition);
    }
}

fn send_mdn(life: &mut Life, recipient: usize, disposition: MdnToSend) {
    // Without a sender there is nobody to tell.
    if let Origin::Direct { from: Some(to), .. } = &life.exchange.origin {
        let domain = to.domain().clone();
        life.now(Effect::SendMdn {
            recipient,
            disposition,
            domain,
            until: after(life.at, MDN_LIFETIME),
        });
    }
}

/// What the final MDN about a recipient says, once it is settled. Delivery is told to those who asked (DST-3, DST-4).
fn final_mdn(exchange: &Exchange, index: usize) -> Option<MdnToSend> {
    let outcome = exchange.recipients.get(index)?.outcome.as_ref()?;
    match outcome.failure {
        Some(_) => Some(MdnToSend::Failed),
        None => exchange
            .wants_final_delivery
            .then_some(MdnToSend::Dispatched),
    }
}

fn repeat_mdns(life: &mut Life, addresses: &[DirectAddress]) {
    let at = life.at;
    for index in 0..life.exchange.recipients.len() {
        let recipient = &mut life.exchange.recipients[index];
        // What has not left yet will: nothing to repeat.
        if !addresses.contains(&recipient.address) || !recipient.mdns.processed_done {
            continue;
        }
        let repeats = &mut recipient.mdns.repeated_at;
        repeats.retain(|earlier| after(*earlier, REPEAT_WINDOW) > at);
        if repeats.len() >= MAX_REPEATS {
            continue;
        }
        repeats.push(at);
        send_mdn(life, index, MdnToSend::Processed);
        send_final_mdn(life, index);
    }
}

/// Whether the mail was opened and trusted: a promise.
fn is_opened(exchange: &Exchange) -> bool {
    matches!(&exchange.origin, Origin::Direct { from: Some(_), .. })
}

fn post_in<'a>(life: &'a mut Life, id: LegId, states: &[LegState]) -> Option<&'a mut XdrLeg> {
    life.exchange
        .legs
        .iter_mut()
        .filter(|leg| leg.id == id)
        .find_map(|leg| match &mut leg.kind {
            LegKind::Xdr(post) if states.contains(&post.state) => Some(post),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Leg, Scheduled, samples::*, step};
    use super::*;

    const STAYS: Option<LegState> = None;

    fn columns() -> [(&'static str, EventKind); 13] {
        let leg = leg_id(1);
        let posted = |result| EventKind::Posted {
            leg,
            attempt: 1,
            result,
            code: None,
        };
        let deferred = |result| EventKind::DeferredAnswer { leg, result };
        let partial = || PostResult::Partial { failed: Vec::new() };
        let unavailable = || PostResult::Unavailable {
            retry_at: minute(3),
        };
        let lost = || PostResult::AnswerLost {
            retry_at: minute(3),
        };
        [
            ("post started", EventKind::PostStarted { leg }),
            ("success", posted(PostResult::Success)),
            ("partial, nobody named", posted(partial())),
            ("refused", posted(PostResult::Refused)),
            ("unavailable", posted(unavailable())),
            ("202", posted(PostResult::Deferred)),
            ("answer lost", posted(lost())),
            ("deferred success", deferred(PostResult::Success)),
            ("deferred refusal", deferred(PostResult::Refused)),
            ("deferred busy", deferred(unavailable())),
            ("deferred nonsense", deferred(lost())),
            (
                "cannot be made",
                EventKind::LegFailed {
                    leg,
                    reason: Reason::ConversionFailed,
                },
            ),
            ("deadline", EventKind::DeadlineQueue),
        ]
    }

    /// What each column makes of a leg that has not ended.
    fn row(state: LegState, idempotent: bool) -> [Option<LegState>; 13] {
        use LegState::{AwaitingDeferred, Delivered, Expired, InDoubt, Opened, Posting, Refused};
        let (x, d, r) = (STAYS, Some(Delivered), Some(Refused));
        let (o, w) = (Some(Opened), Some(AwaitingDeferred));
        let lost = if idempotent { o } else { Some(InDoubt) };
        match state {
            Opened => [
                Some(Posting),
                d,
                r,
                r,
                o,
                w,
                lost,
                d,
                r,
                o,
                x,
                r,
                Some(Expired),
            ],
            Posting => [x, d, r, r, o, w, lost, d, r, o, x, r, Some(InDoubt)],
            AwaitingDeferred => [x, x, x, x, x, x, x, d, r, o, x, r, Some(Expired)],
            _ => [STAYS; 13],
        }
    }

    fn begun(recipients: &[&str]) -> Exchange {
        let mut exchange = from_direct(recipients);
        feed(&mut exchange, minute(0), EventKind::Accepted);
        exchange
    }

    fn opened_with(legs: Vec<(Leg, Vec<DirectAddress>)>, recipients: &[&str]) -> Exchange {
        let mut exchange = begun(recipients);
        let opened = EventKind::Opened(opening(legs));
        feed(&mut exchange, minute(1), opened);
        exchange
    }

    fn opened(idempotent: bool) -> Exchange {
        opened_with(vec![(post_leg(1, idempotent), vec![address(ADA)])], &[ADA])
    }

    fn post(exchange: &mut Exchange) -> &mut XdrLeg {
        match &mut exchange.legs[0].kind {
            LegKind::Xdr(post) => post,
            LegKind::Mail(_) => panic!("a post"),
        }
    }

    fn mdns(effects: &[Scheduled]) -> Vec<(usize, MdnToSend)> {
        effects
            .iter()
            .filter_map(|scheduled| match scheduled.effect {
                Effect::SendMdn {
                    recipient,
                    disposition,
                    ..
                } => Some((recipient, disposition)),
                _ => None,
            })
            .collect()
    }

    fn processed_done(exchange: &mut Exchange, text: &str) -> Vec<Scheduled> {
        let done = EventKind::MdnDone {
            recipient: address(text),
            disposition: MdnToSend::Processed,
        };
        feed(exchange, minute(2), done)
    }

    fn posted(exchange: &mut Exchange, leg: u128, result: PostResult) -> Vec<Scheduled> {
        let leg = leg_id(leg);
        let attempt = 1;
        let posted = EventKind::Posted {
            leg,
            attempt,
            result,
            code: None,
        };
        feed(exchange, minute(4), posted)
    }

    // rule: DST-3, DST-7, XDR-110, XDR-111
    #[test]
    fn every_cell_of_the_leg_table_holds() {
        for idempotent in [false, true] {
            for state in LegState::ALL {
                let cells = if state.is_final() {
                    [STAYS; 13]
                } else {
                    row(state, idempotent)
                };
                for ((name, kind), cell) in columns().into_iter().zip(cells) {
                    let cell_name = format!("{state:?} x {name}, idempotent {idempotent}");
                    if state == LegState::Received {
                        // A leg is known once its mail is opened.
                        continue;
                    }
                    let mut before = opened(idempotent);
                    processed_done(&mut before, ADA);
                    post(&mut before).state = state;
                    if state.is_final() {
                        before.recipients[0].outcome = Some(super::super::Outcome {
                            at: minute(2),
                            failure: None,
                        });
                        before.final_at = Some(minute(2));
                    }
                    let event = Event {
                        at: minute(51),
                        kind,
                    };
                    let (mut after, effects) = step(&before, &event);
                    let expected = cell.unwrap_or(state);
                    assert_eq!(post(&mut after).state, expected, "{cell_name}");
                    let settles = !state.is_final() && expected.is_final();
                    let outcome = after.recipients[0].outcome.clone();
                    if settles {
                        let delivered = expected == LegState::Delivered;
                        assert_eq!(outcome.unwrap().failure.is_none(), delivered, "{cell_name}");
                        let told = if delivered {
                            MdnToSend::Dispatched
                        } else {
                            MdnToSend::Failed
                        };
                        assert_eq!(mdns(&effects), [(0, told)], "{cell_name}");
                        assert_eq!(after.final_at, Some(minute(51)), "{cell_name}");
                    } else {
                        assert!(mdns(&effects).is_empty(), "{cell_name}");
                    }
                    if cell.is_none() {
                        assert_eq!(after, before, "{cell_name}");
                    }
                }
            }
        }
    }

    // rule: RT-12, RT-13, RT-14, RT-15
    #[test]
    fn every_failed_leg_carries_the_reason_of_its_cause() {
        let lost = PostResult::AnswerLost {
            retry_at: minute(9),
        };
        let posted = |result| EventKind::Posted {
            leg: leg_id(1),
            attempt: 1,
            result,
            code: None,
        };
        let cannot = EventKind::LegFailed {
            leg: leg_id(1),
            reason: Reason::ConversionFailed,
        };
        for (idempotent, kinds, reason) in [
            (false, vec![posted(PostResult::Refused)], Reason::XdrRefused),
            (false, vec![posted(lost.clone())], Reason::InDoubt),
            (false, vec![cannot], Reason::ConversionFailed),
            (
                false,
                vec![EventKind::DeadlineQueue],
                Reason::XdrUnavailable,
            ),
            // Posted, the answer lost, and never cleared up: it may have been stored.
            (
                true,
                vec![posted(lost), EventKind::DeadlineQueue],
                Reason::InDoubt,
            ),
            // 202 and no response by the deadline.
            (
                true,
                vec![posted(PostResult::Deferred), EventKind::DeadlineQueue],
                Reason::XdrUnavailable,
            ),
        ] {
            let mut exchange = opened(idempotent);
            for kind in kinds {
                feed(&mut exchange, minute(50), kind);
            }
            let outcome = exchange.recipients[0].outcome.clone().unwrap();
            assert_eq!(outcome.failure, Some(reason));
        }
    }

    // rule: COR-2, RCV-9, MDN-12, COR-1
    #[test]
    fn opening_promises_processed_to_the_trusted_and_posts_each_leg_once() {
        let mut exchange = from_direct(&[ADA, NGOZI]);
        let effects = feed(&mut exchange, minute(0), EventKind::Accepted);
        assert_eq!(
            effects,
            [
                Scheduled::new(Effect::Open, minute(0)),
                Scheduled::new(Effect::DeadlineQueue, minute(50)),
            ]
        );
        let both = vec![address(ADA), address(NGOZI)];
        let opened = EventKind::Opened(opening(vec![(post_leg(1, false), both)]));
        let effects = feed(&mut exchange, minute(1), opened.clone());
        assert_eq!(
            mdns(&effects),
            [(0, MdnToSend::Processed), (1, MdnToSend::Processed)]
        );
        let posts = effects
            .iter()
            .filter(|scheduled| matches!(scheduled.effect, Effect::Post { .. }));
        assert_eq!(posts.count(), 1);
        assert!(feed(&mut exchange, minute(2), opened).is_empty());
    }

    // rule: DST-2, RCV-R6, MR-4
    #[test]
    fn an_untrusted_recipient_is_refused_in_silence() {
        let mut exchange = opened_with(
            vec![(post_leg(1, false), vec![address(ADA)])],
            &[ADA, NGOZI],
        );
        let refused = exchange.recipients[1].outcome.clone().unwrap();
        assert_eq!(refused.failure, Some(Reason::Untrusted));
        assert!(processed_done(&mut exchange, NGOZI).is_empty());
        assert!(exchange.final_at.is_none());

        let mut unopened = begun(&[ADA]);
        let refused = EventKind::RecipientRefused {
            recipient: address(ADA),
            reason: Reason::Untrusted,
        };
        assert!(mdns(&feed(&mut unopened, minute(1), refused)).is_empty());
        assert_eq!(unopened.final_at, Some(minute(1)));
    }

    // rule: DST-1, DST-5
    #[test]
    fn the_final_mdn_waits_until_processed_has_left() {
        let mut exchange = opened(false);
        let effects = posted(&mut exchange, 1, PostResult::Success);
        assert!(mdns(&effects).is_empty());
        let effects = processed_done(&mut exchange, ADA);
        assert_eq!(mdns(&effects), [(0, MdnToSend::Dispatched)]);
        assert!(processed_done(&mut exchange, ADA).is_empty());
    }

    // rule: DST-4, DSN-5
    #[test]
    fn dispatched_is_told_to_those_who_asked_and_failure_to_all() {
        for (result, told) in [
            (PostResult::Success, Vec::new()),
            (PostResult::Refused, vec![(0, MdnToSend::Failed)]),
        ] {
            let mut exchange = begun(&[ADA]);
            let mut opening = opening(vec![(post_leg(1, false), vec![address(ADA)])]);
            opening.wants_final_delivery = false;
            feed(&mut exchange, minute(1), EventKind::Opened(opening));
            processed_done(&mut exchange, ADA);
            assert_eq!(mdns(&posted(&mut exchange, 1, result)), told);
        }
    }

    // rule: RCV-R7, DIR-8
    #[test]
    fn what_cannot_be_served_after_trust_is_processed_and_then_failed() {
        let mut exchange = begun(&[ADA, NGOZI]);
        let mut opening = opening(vec![(
            post_leg(1, false),
            vec![address(ADA), address(NGOZI)],
        )]);
        opening.failed = vec![(address(NGOZI), Reason::UnknownRecipient)];
        let effects = feed(&mut exchange, minute(1), EventKind::Opened(opening));
        assert_eq!(
            mdns(&effects),
            [(0, MdnToSend::Processed), (1, MdnToSend::Processed)]
        );
        assert!(exchange.recipients[1].legs.is_empty());
        let effects = processed_done(&mut exchange, NGOZI);
        assert_eq!(mdns(&effects), [(1, MdnToSend::Failed)]);
    }

    // rule: XDR-102
    #[test]
    fn several_legs_are_one_result_and_any_failure_fails_it() {
        for (second, failure) in [
            (PostResult::Success, None),
            (PostResult::Refused, Some(Reason::XdrRefused)),
        ] {
            let served = || vec![address(ADA)];
            let legs = vec![
                (post_leg(1, false), served()),
                (post_leg(2, false), served()),
            ];
            let mut exchange = opened_with(legs, &[ADA]);
            posted(&mut exchange, 2, second);
            assert!(exchange.recipients[0].outcome.is_none());
            posted(&mut exchange, 1, PostResult::Success);
            let outcome = exchange.recipients[0].outcome.clone().unwrap();
            assert_eq!(outcome.failure, failure);
        }
    }

    #[test]
    fn partial_success_fails_the_recipients_in_error_alone() {
        let both = || vec![address(ADA), address(NGOZI)];
        let partial = |failed| PostResult::Partial { failed };
        for (failed, failures) in [
            (vec![address(NGOZI)], [false, true]),
            (both(), [true, true]),
            (vec![address("x@else.example")], [true, true]),
        ] {
            let mut exchange = opened_with(vec![(post_leg(1, false), both())], &[ADA, NGOZI]);
            posted(&mut exchange, 1, partial(failed));
            let failed = [0, 1].map(|index: usize| {
                let outcome = exchange.recipients[index].outcome.as_ref().unwrap();
                outcome.failure.is_some()
            });
            assert_eq!(failed, failures);
        }
    }

    // rule: COR-5
    #[test]
    fn an_edge_that_reports_later_settles_each_recipient_by_its_disposition() {
        let mut leg = post_leg(1, false);
        if let LegKind::Xdr(post) = &mut leg.kind {
            post.final_by_disposition = true;
        }
        let both = vec![address(ADA), address(NGOZI)];
        let mut exchange = opened_with(vec![(leg, both)], &[ADA, NGOZI]);
        posted(&mut exchange, 1, PostResult::Success);
        assert_eq!(post(&mut exchange).state, LegState::AwaitingDeferred);
        let disposition = |text: &str, success| EventKind::EdgeDisposition {
            leg: leg_id(1),
            recipient: address(text),
            success,
        };
        feed(&mut exchange, minute(5), disposition(NGOZI, false));
        // Whoever speaks of somebody else, or changes its mind, changes nothing.
        feed(
            &mut exchange,
            minute(6),
            disposition("x@else.example", true),
        );
        feed(&mut exchange, minute(6), disposition(NGOZI, true));
        assert!(exchange.recipients[0].outcome.is_none());
        feed(&mut exchange, minute(7), disposition(ADA, true));
        let failure = |index: usize| exchange.recipients[index].outcome.as_ref().unwrap().failure;
        assert_eq!(failure(0), None);
        assert_eq!(failure(1), Some(Reason::XdrRefused));
        assert_eq!(exchange.final_at, Some(minute(7)));
    }

    #[test]
    fn a_disposition_from_an_endpoint_whose_success_is_final_changes_nothing() {
        let exchange = opened(false);
        let event = Event {
            at: minute(5),
            kind: EventKind::EdgeDisposition {
                leg: leg_id(1),
                recipient: address(ADA),
                success: true,
            },
        };
        assert_eq!(step(&exchange, &event), (exchange.clone(), Vec::new()));
    }

    #[test]
    fn a_post_is_repeated_at_its_time_but_not_after_the_deadline() {
        let mut exchange = opened(true);
        let retry_at = minute(20);
        let effects = posted(&mut exchange, 1, PostResult::Unavailable { retry_at });
        let again = Effect::Post {
            leg: leg_id(1),
            endpoint: "harbor".to_owned(),
            attempt: 2,
        };
        assert_eq!(effects, [Scheduled::new(again, minute(20))]);
        let retry_at = minute(50);
        let effects = posted(&mut exchange, 1, PostResult::AnswerLost { retry_at });
        assert!(effects.is_empty());
    }

    // rule: DST-6, LOOP-4, MDN-15
    #[test]
    fn a_mail_that_comes_again_gets_its_mdns_again_five_times_a_day_at_most() {
        let mut exchange = opened(false);
        let again = || EventKind::MailRepeated {
            recipients: vec![address(ADA), address("x@else.example")],
        };
        assert!(feed(&mut exchange, minute(2), again()).is_empty());
        processed_done(&mut exchange, ADA);
        let effects = feed(&mut exchange, minute(3), again());
        assert_eq!(mdns(&effects), [(0, MdnToSend::Processed)]);
        posted(&mut exchange, 1, PostResult::Success);
        let both = [(0, MdnToSend::Processed), (0, MdnToSend::Dispatched)];
        for time in 5..9 {
            assert_eq!(mdns(&feed(&mut exchange, minute(time), again())), both);
        }
        assert!(feed(&mut exchange, minute(9), again()).is_empty());
        let next_day = minute(24 * 60 + 10);
        assert_eq!(mdns(&feed(&mut exchange, next_day, again())), both);
    }

    // rule: MDN-15
    #[test]
    fn the_first_bytes_of_an_mdn_are_its_bytes_for_good() {
        let mut exchange = opened(false);
        let mdn_sealed = |body| EventKind::MdnSealed {
            recipient: address(ADA),
            disposition: MdnToSend::Processed,
            sealed: sealed(body),
        };
        for body in [31, 32] {
            assert!(feed(&mut exchange, minute(2), mdn_sealed(body)).is_empty());
        }
        let mdns = &exchange.recipients[0].mdns;
        assert_eq!(mdns.sealed(MdnToSend::Processed), Some(&sealed(31)));
        assert_eq!(mdns.sealed(MdnToSend::Failed), None);
        let owned = exchange.bodies();
        assert!(owned.contains(&sealed(31).body) && !owned.contains(&sealed(32).body));
        assert!(owned.contains(&post(&mut exchange).request.body));

        let mut refused = begun(&[ADA]);
        feed(&mut refused, minute(2), mdn_sealed(31));
        assert!(refused.recipients[0].mdns.sealed.is_empty());
    }

    // rule: LOOP-1, RCV-8, MDN-14
    #[test]
    fn a_notice_or_a_repetition_ends_without_any_answer() {
        let mut exchange = begun(&[ADA]);
        let effects = feed(&mut exchange, minute(1), EventKind::Absorbed);
        assert!(mdns(&effects).is_empty());
        assert_eq!(exchange.final_at, Some(minute(1)));
        let mut promised = opened(false);
        feed(&mut promised, minute(2), EventKind::Absorbed);
        assert!(promised.final_at.is_none());
    }

    #[test]
    fn a_mail_never_opened_ends_at_the_deadline_and_nobody_is_told() {
        let mut exchange = begun(&[ADA]);
        let effects = feed(&mut exchange, minute(50), EventKind::DeadlineQueue);
        assert!(mdns(&effects).is_empty());
        assert_eq!(exchange.recipients[0].reason, Some(Reason::Internal));
    }

    #[test]
    fn an_operator_ends_a_recipient_and_the_posts_that_nobody_awaits() {
        let both = vec![address(ADA), address(NGOZI)];
        let mut exchange = opened_with(vec![(post_leg(1, false), both)], &[ADA, NGOZI]);
        for (text, state) in [(ADA, LegState::Opened), (NGOZI, LegState::Refused)] {
            let recipient = address(text);
            feed(
                &mut exchange,
                minute(3),
                EventKind::OperatorFailed { recipient },
            );
            assert_eq!(post(&mut exchange).state, state);
        }
        assert_eq!(exchange.final_at, Some(minute(3)));
        assert_eq!(exchange.recipients[1].reason, Some(Reason::Operator));
    }
}
