//! XDR to Direct: the life of a status submission (STS-3). It is made once, handed over once, and repeated only while the
//! partner's receipt of it is unknown.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Effect, Origin, PreparedRequest, StatusEnd, StatusReport, StatusResult, step::Life,
    timers::after,
};
use crate::formats::ids::SoapMessageId;

/// How long the hand-over of a status submission is tried (STS-3).
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The number of the first attempt.
const FIRST_ATTEMPT: u32 = 1;

/// The first status submission about a settled recipient is the one.
pub(super) fn made(life: &mut Life, index: usize, id: &SoapMessageId, request: &PreparedRequest) {
    let until = after(life.at, LIFETIME);
    let Some(recipient) = life.exchange.recipients.get_mut(index) else {
        return;
    };
    if recipient.outcome.is_none() || recipient.status.is_some() {
        return;
    }
    recipient.status = Some(StatusReport {
        soap_message_id: id.clone(),
        request: request.clone(),
        until,
        answer_lost: false,
        end: None,
    });
    post(life, index, FIRST_ATTEMPT, life.at);
}

pub(super) fn posted(life: &mut Life, index: usize, attempt: u32, result: StatusResult) {
    let recipient = life.exchange.recipients.get_mut(index);
    let Some(report) = recipient.and_then(|recipient| recipient.status.as_mut()) else {
        return;
    };
    if report.end.is_some() {
        return;
    }
    match result {
        StatusResult::Taken => report.end = Some(StatusEnd::Taken),
        StatusResult::Refused => report.end = Some(StatusEnd::Refused),
        StatusResult::Unknown {
            retry_at,
            may_have_arrived,
        } => {
            report.answer_lost |= may_have_arrived;
            if retry_at < report.until {
                post(life, index, attempt.saturating_add(1), retry_at);
            } else {
                report.end = Some(StatusEnd::Expired);
            }
        }
    }
}

fn post(life: &mut Life, recipient: usize, attempt: u32, due: Timestamp) {
    if let Origin::Xdr { partner, .. } = &life.exchange.origin {
        let partner = partner.clone();
        let post = Effect::PostStatus {
            recipient,
            partner,
            attempt,
        };
        life.later(post, due);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EventKind, Exchange, Reason, Recipient, Scheduled, samples::*};
    use super::*;

    /// Its one recipient was refused at accept.
    fn settled() -> Exchange {
        let refused = Recipient::refused(address(ADA), Reason::Untrusted);
        let mut exchange = from_xdr(Vec::new(), vec![refused]);
        feed(&mut exchange, minute(0), EventKind::Accepted);
        exchange
    }

    fn made(number: u128) -> EventKind {
        let LegSample { id, request } = sample(number);
        EventKind::StatusMade {
            recipient: 0,
            soap_message_id: id,
            request,
        }
    }

    struct LegSample {
        id: SoapMessageId,
        request: PreparedRequest,
    }

    fn sample(number: u128) -> LegSample {
        let leg = post_leg(number, true);
        let post = leg.as_xdr().unwrap();
        LegSample {
            id: post.soap_message_id.clone(),
            request: post.request.clone(),
        }
    }

    fn attempt(number: u32, due: u64) -> Scheduled {
        let post = Effect::PostStatus {
            recipient: 0,
            partner: "harbor".to_owned(),
            attempt: number,
        };
        Scheduled::new(post, minute(due))
    }

    fn posted(attempt: u32, result: StatusResult) -> EventKind {
        EventKind::StatusPosted {
            recipient: 0,
            attempt,
            result,
        }
    }

    fn unknown(retry_at: u64, may_have_arrived: bool) -> StatusResult {
        StatusResult::Unknown {
            retry_at: minute(retry_at),
            may_have_arrived,
        }
    }

    fn report(exchange: &Exchange) -> &StatusReport {
        exchange.recipients[0].status.as_ref().unwrap()
    }

    // rule: STS-3
    #[test]
    fn the_first_bytes_of_a_status_submission_are_its_bytes_for_good() {
        let mut exchange = settled();
        assert_eq!(feed(&mut exchange, minute(1), made(7)), [attempt(1, 1)]);
        assert!(feed(&mut exchange, minute(2), made(8)).is_empty());
        let LegSample { id, request } = sample(7);
        assert_eq!(report(&exchange).soap_message_id, id);
        assert_eq!(report(&exchange).until, minute(24 * 60 + 1));
        assert!(exchange.bodies().contains(&request.body));
        assert_eq!(exchange.open_reports().count(), 1);
    }

    #[test]
    fn nothing_is_told_of_a_recipient_that_is_not_settled_or_not_there() {
        let queued = Recipient::queued(address(ADA), vec![leg_id(1)], None);
        let mut exchange = from_xdr(vec![mail_leg(1)], vec![queued]);
        feed(&mut exchange, minute(0), EventKind::Accepted);
        let before = exchange.clone();
        assert!(feed(&mut exchange, minute(1), made(7)).is_empty());
        let nobody = EventKind::StatusMade {
            recipient: 9,
            soap_message_id: sample(7).id,
            request: sample(7).request,
        };
        assert!(feed(&mut exchange, minute(1), nobody).is_empty());
        assert!(feed(&mut exchange, minute(1), posted(1, StatusResult::Taken)).is_empty());
        assert_eq!(exchange, before);
    }

    // rule: STS-3
    #[test]
    fn an_attempt_is_repeated_while_receipt_is_unknown_and_for_a_day_at_the_most() {
        let mut exchange = settled();
        feed(&mut exchange, minute(1), made(7));
        let effects = feed(&mut exchange, minute(2), posted(1, unknown(5, false)));
        assert_eq!(effects, [attempt(2, 5)]);
        assert!(!report(&exchange).answer_lost);
        let effects = feed(&mut exchange, minute(6), posted(2, unknown(9, true)));
        assert_eq!(effects, [attempt(3, 9)]);
        // What may have arrived once may be there, whatever became of the next attempt.
        feed(&mut exchange, minute(10), posted(3, unknown(19, false)));
        assert!(report(&exchange).answer_lost);
        let day = 24 * 60 + 1;
        let late = posted(4, unknown(day, false));
        assert!(feed(&mut exchange, minute(day - 2), late).is_empty());
        assert_eq!(report(&exchange).end, Some(StatusEnd::Expired));
        assert_eq!(exchange.open_reports().count(), 0);
    }

    // rule: STS-3
    #[test]
    fn what_the_partner_said_ends_it_and_whatever_comes_later_changes_nothing() {
        for (result, end) in [
            (StatusResult::Taken, StatusEnd::Taken),
            (StatusResult::Refused, StatusEnd::Refused),
        ] {
            let mut exchange = settled();
            feed(&mut exchange, minute(1), made(7));
            assert!(feed(&mut exchange, minute(2), posted(1, result)).is_empty());
            assert_eq!(report(&exchange).end, Some(end));
            let ended = exchange.clone();
            for later in [StatusResult::Taken, StatusResult::Refused, unknown(9, true)] {
                assert!(feed(&mut exchange, minute(3), posted(1, later)).is_empty());
            }
            assert_eq!(exchange, ended);
        }
    }
}
